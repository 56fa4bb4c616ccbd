"""Faults in transit and their results: one test for each row of docs/reliability.md."""

import time

import pytest
from flwr.common.constant import ErrorCode

from tests.server.faults import Fault, assert_same, of, only, replayed


def test_nothing_goes_wrong(make_world) -> None:
    world = make_world().run()
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert world.problems == []
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))
    assert [event["share"] for event in world.logged("round")] == [1, 1, 1]


def test_a_site_that_raises_is_named_and_tried_again(make_world) -> None:
    raising = Fault(error=ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
    world = make_world(only("birch", 2, raising)).run()
    assert world.problems == [(2, "birch", "Flower error 2")]
    assert world.answered[1] == ["alder", "cedar"]
    assert world.answered[2] == ["alder", "birch", "cedar"]
    assert_same(world.model, replayed([of(1), of(2, "alder", "cedar"), of(3)]))
    assert "MARY" not in (world.folder.path / "rounds.jsonl").read_text()


def test_a_site_that_hangs_is_left_out_after_the_deadline(make_world) -> None:
    world = make_world(only("birch", 1, Fault(lost=True))).run()
    assert world.problems == [(1, "birch", "no answer before the deadline")]
    assert world.logged("round")[0]["missing"] == ["birch"]
    assert world.logged("round")[0]["share"] == pytest.approx(2 / 3)
    assert 60 <= world.logged("round")[0]["seconds"] < 65
    assert_same(world.model, replayed([of(1, "alder", "cedar"), of(2), of(3)]))


def test_the_deadline_travels_as_seconds_that_are_left(make_world) -> None:
    crash = Fault(delay=20, error=ErrorCode.CLIENT_APP_CRASHED)
    world = make_world(only("birch", 1, crash, attempt=0)).run()
    asked = [t.deadline_s for t in world.grid.pushed if t.task == "train-1-birch"]
    assert asked[0] == 60
    assert 35 < asked[1] <= 40
    (down,) = {event["bytes_down"]["birch"] > 2000 for event in world.logged("round")[:1]}
    assert down


def test_sites_that_take_turns_have_the_deadline_each(make_world) -> None:
    world = make_world(lambda *_: Fault(delay=50))
    world.slots = 1
    world.run()
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert world.problems == []


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.CLIENT_APP_CRASHED,
    ],
)
def test_a_lost_answer_is_asked_for_again_and_folded_once(make_world, code: int) -> None:
    world = make_world(only("birch", 2, Fault(error=code, delay=5), attempt=0)).run()
    assert [(e["round"], e["site"]) for e in world.logged("asked_again")] == [(2, "birch")]
    assert world.grid.attempts["birch", "train-2-birch"] == 2
    assert world.problems == []
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))


def test_pieces_that_make_no_message_cost_one_update_and_not_the_run(make_world) -> None:
    world = make_world(only("birch", 2, Fault(noise=True))).run()
    ((number, site, problem),) = world.problems
    assert (number, site) == (2, "birch")
    assert problem.startswith("what came is no message (")
    assert [len(sites) for sites in world.answered] == [3, 2, 3]


def test_a_task_that_is_always_lost_is_given_up(make_world) -> None:
    world = make_world(only("birch", 1, Fault(error=ErrorCode.CLIENT_APP_CRASHED))).run()
    assert world.grid.attempts["birch", "train-1-birch"] == 5
    assert world.problems == [(1, "birch", "the site's process ended while it worked")]
    assert world.answered == [["alder", "cedar"], ["alder", "birch", "cedar"]] * 1 + [
        ["alder", "birch", "cedar"]
    ]


@pytest.mark.parametrize("node", [2, 77])
def test_a_site_that_is_lost_in_mid_round_and_comes_back_is_asked_again(make_world, node) -> None:
    """Under its old node or another; the fake sites resume as real ones do."""
    world = make_world(only("birch", 1, Fault(delay=30), attempt=0))
    sleep, begun = world.clock.sleep, world.clock.now

    def drama(seconds: float) -> None:
        sleep(seconds)
        passed = world.clock.now - begun
        if 10 < passed < 25:
            world.grid.here.pop(2, None)
        elif passed >= 25 and "birch" not in world.grid.here.values():
            world.grid.connect("birch", node)

    world.clock.sleep = drama
    world.run()
    assert world.grid.attempts["birch", "train-1-birch"] == 2
    assert [event["site"] for event in world.logged("joined")] == ["birch"]
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert world.problems == []
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))


def test_two_nodes_of_one_name_do_not_count_twice_and_the_second_takes_over(make_world) -> None:
    world = make_world()

    def drama(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 1:
            world.grid.connect("birch", 9)
        if event["event"] == "round" and event["round"] == 2:
            del world.grid.here[2]

    world.hooks.append(drama)
    world.run()
    assert [p for p in world.problems if "two nodes" in p[2]] == [
        (2, "birch", "two nodes have this site's name; give each its own")
    ]
    assert world.answered == [["alder", "birch", "cedar"]] * 3


def test_an_answer_delivered_twice_is_folded_once(make_world) -> None:
    world = make_world(only("birch", 2, Fault(copies=2))).run()
    assert [(e["round"], e["site"]) for e in world.logged("answered_again")] == [(2, "birch")]
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))


def test_an_answer_to_the_first_push_counts_when_the_task_was_pushed_twice(make_world) -> None:
    """Extended, so that birch has the task twice; both answers come."""
    world = make_world(only("birch", 1, Fault(delay=70), attempt=0), quorum=3, extend=1).run()
    assert len(world.logged("extended")) == 1
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert world.grid.attempts["birch", "train-1-birch"] == 2
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))


def test_a_late_answer_is_dropped(make_world) -> None:
    """It arrives while round 2 waits for cedar."""
    plans = [only("birch", 1, Fault(delay=70)), only("cedar", 2, Fault(delay=30))]

    def plan(*what) -> Fault:
        return next((f for f in (p(*what) for p in plans) if f != Fault()), Fault())

    world = make_world(plan).run()
    late = [(e["round"], e["site"], e["task_round"]) for e in world.logged("answered_late")]
    assert late == [(2, "birch", 1)]
    assert_same(world.model, replayed([of(1, "alder", "cedar"), of(2), of(3)]))


def test_a_late_answer_counts_less_in_the_next_round(make_world) -> None:
    plans = [only("birch", 1, Fault(delay=70)), only("cedar", 2, Fault(delay=30))]

    def plan(*what) -> Fault:
        return next((f for f in (p(*what) for p in plans) if f != Fault()), Fault())

    world = make_world(plan, late="next_round", weights="uniform").run()
    second = {"alder/2": 1.0, "birch/2": 1.0, "cedar/2": 1.0, "birch/1": 2**-0.5}
    sites = ("alder", "birch", "cedar")
    wanted = replayed(
        [
            dict.fromkeys(("alder/1", "cedar/1"), 1.0),
            second,
            dict.fromkeys([f"{s}/3" for s in sites], 1.0),
        ]
    )
    assert_same(world.model, wanted)
    assert world.logged("round")[1]["late"] == {"birch": 1}


def test_jumps_of_the_wall_clock_change_nothing(make_world, monkeypatch) -> None:
    world = make_world(only("birch", 2, Fault(lost=True)))
    real, jumps = time.time, iter([86400.0, -86400.0, 0.0])
    offset = [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])

    def drama(event: dict) -> None:
        if event["event"] == "round":
            offset[0] = next(jumps)

    world.hooks.append(drama)
    world.run()
    assert_same(world.model, replayed([of(1), of(2, "alder", "cedar"), of(3)]))
    assert [60 <= e["seconds"] < 65 for e in world.logged("round")] == [False, True, False]
