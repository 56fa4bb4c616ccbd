"""Rounds of sites that come and go, fail again and again or are too few; one test a row of docs."""

import pytest
from flwr.common.constant import ErrorCode

from mama.errors import QuorumError
from tests.server.faults import Fault, assert_same, of, only, replayed


@pytest.mark.parametrize(
    "fault",
    [Fault(error=ErrorCode.CLIENT_APP_RAISED_EXCEPTION), Fault(change=lambda h, d: (h, d[:-1]))],
)
def test_a_round_in_which_all_answered_and_too_few_well_is_extended_too(make_world, fault) -> None:
    world = make_world(only("birch", 2, fault, attempt=0), quorum=3, extend=2).run()
    assert [(e["round"], e["times"]) for e in world.logged("extended")] == [(2, 1)]
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))


def test_a_paused_site_stays_paused_when_the_server_starts_again(make_world) -> None:
    raising = Fault(error=ErrorCode.CLIENT_APP_RAISED_EXCEPTION)

    def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
        return raising if (site, kind) == ("birch", "train") and number <= 2 else Fault()

    asked: list[dict] = []
    for crash in (False, True):
        world = make_world(plan, out=f"run-{crash}", rounds=5, pause_after=2)

        def die(event: dict, world=world, crash=crash) -> None:
            if crash and event["event"] == "round" and event["round"] == 3:
                world.hooks.clear()
                raise KeyboardInterrupt

        world.hooks.append(die)
        if crash:
            with pytest.raises(KeyboardInterrupt):
                world.run()
        world.run()
        rounds = {event["round"]: event["asked"] for event in world.logged("round")}
        asked.append(rounds)
    assert asked[0] == asked[1]
    assert "birch" not in asked[0][3]


def test_a_quorum_lost_extends_the_round_and_regained_ends_it(make_world) -> None:
    world = make_world(quorum=3, extend=3)
    sleep, begun = world.clock.sleep, world.clock.now

    def drama(seconds: float) -> None:
        sleep(seconds)
        if world.logged("round") and not world.logged("extended"):
            world.grid.here.pop(2, None)
        elif world.clock.now - begun > 150 and "birch" not in world.grid.here.values():
            world.grid.connect("birch", 5)

    world.clock.sleep = drama
    world.hooks.append(lambda e: world.grid.here.pop(2, None) if e["event"] == "round" else None)
    world.run()
    assert [(e["round"], e["times"]) for e in world.logged("extended")] == [(2, 1), (2, 2)]
    assert "2 of at least 3 sites answered" in world.logged("extended")[0]["reason"]
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))


def test_a_quorum_lost_for_good_ends_the_run_and_keeps_all(make_world) -> None:
    world = make_world(quorum=3, extend=2)
    gone = lambda e: world.grid.here.pop(2, None) if e["event"] == "round" else None  # noqa: E731
    world.hooks.append(gone)
    with pytest.raises(QuorumError, match="round 2: 2 of at least 3 sites answered") as error:
        world.run()
    assert "\n" not in str(error.value)
    assert len(world.logged("extended")) == 2
    assert world.metrics()["status"] == "stopped"
    assert world.folder.latest().round == 1

    world.hooks.clear()
    world.grid.connect("birch", 8)
    world.run()
    assert world.metrics()["status"] == "finished"
    assert_same(world.model, replayed(of(n) for n in (1, 2, 3)))


def test_a_public_share_can_be_the_quorum(make_world) -> None:
    """Three small sites are no quorum without the big one."""
    world = make_world(
        only("alder", 2, Fault(lost=True)),
        shares={"alder": 6, "birch": 2},
        quorum_share=0.5,
    )
    reason = "round 2: sites with 33 % of the public share answered, at least 50 % must"
    with pytest.raises(QuorumError, match=reason):
        world.run()
    world.grid.plan = lambda *_: Fault()
    assert world.run().logged("round")[-1]["share"] == 1


def test_a_site_joins_leaves_and_comes_back(make_world) -> None:
    world = make_world(rounds=8)

    def drama(event: dict) -> None:
        after = event["round"] if event["event"] == "round" else None
        if after == 2:
            world.grid.connect("dogwood", 4)
        if after == 4:
            del world.grid.here[4]
        if after == 6:
            world.grid.connect("dogwood", 40)

    world.hooks.append(drama)
    world.run()
    with_dogwood = [n for n, sites in enumerate(world.answered, 1) if "dogwood" in sites]
    assert with_dogwood == [3, 4, 7, 8]
    assert all({"alder", "birch", "cedar"} <= set(sites) for sites in world.answered)
    assert [e["site"] for e in world.logged("joined")] == ["dogwood", "dogwood"]
    # Nobody waits for a site that is away.
    assert all(event["seconds"] < 10 for event in world.logged("round"))


def test_a_site_that_fails_again_and_again_is_paused_named_and_tried_now_and_then(
    make_world,
) -> None:
    def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
        bad = site == "birch" and kind == "train" and number <= 8
        return Fault(error=ErrorCode.CLIENT_APP_RAISED_EXCEPTION) if bad else Fault()

    world = make_world(plan, rounds=12, pause_after=2).run()
    assert [(e["round"], e["site"]) for e in world.logged("paused")] == [(2, "birch")]
    assert [number for number, _, _ in world.problems] == [1, 2, 4, 6, 8]
    with_birch = [n for n, sites in enumerate(world.answered, 1) if "birch" in sites]
    assert with_birch == [10, 11, 12]
    assert all("birch" in event["missing"] for event in world.logged("round")[:9])


def test_a_paused_site_that_comes_back_is_asked_at_once(make_world) -> None:
    def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
        bad = site == "birch" and kind == "train" and number <= 2
        return Fault(error=ErrorCode.CLIENT_APP_RAISED_EXCEPTION) if bad else Fault()

    world = make_world(plan, rounds=20, pause_after=2)

    def drama(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 2:
            del world.grid.here[2]
        if event["event"] == "round" and event["round"] == 3:
            world.grid.connect("birch", 2)

    world.hooks.append(drama)
    world.run()
    with_birch = [n for n, sites in enumerate(world.answered, 1) if "birch" in sites]
    assert with_birch == list(range(4, 21))


def test_a_fraction_of_the_sites_is_asked_and_the_same_after_a_crash(make_world) -> None:
    world = make_world(sites=("alder", "birch", "cedar", "dogwood"), rounds=6, sites_per_round=0.5)

    def crash(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 4 and len(world.logged("start")) == 1:
            raise KeyboardInterrupt

    world.hooks.append(crash)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.run()
    rounds = {event["round"]: event["asked"] for event in world.logged("round")}
    asked_in_4 = [event["asked"] for event in world.logged("round") if event["round"] == 4]
    assert asked_in_4[0] == asked_in_4[1]
    assert {len(asked) for asked in rounds.values()} == {2}
    assert len({tuple(asked) for asked in rounds.values()}) > 1
    assert_same(world.model, replayed(of(n, *rounds[n]) for n in range(1, 7)))


def test_cohorts_take_turns(make_world) -> None:
    world = make_world(rounds=4, sites_per_round=[["birch", "alder"], ["cedar"]]).run()
    assert world.answered == [["alder", "birch"], ["cedar"]] * 2
    assert world.problems == []


def test_the_best_model_is_kept_beside_the_newest(make_world) -> None:
    world = make_world(rounds=6, evaluate_every=1).run()
    assert world.folder.best()["round"] == 2
    names = [path.name for path in world.folder.checkpoints()]
    assert names == ["round-0002", "round-0005", "round-0006"]
