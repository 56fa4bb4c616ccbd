"""Absent sites: one lost in a round delays nobody for long; a restarted run waits."""

from collections.abc import Callable

import pytest

from mama.errors import QuorumError
from server.report.status import status
from server.service.follow import line_of
from tests.events import made, records
from tests.server.faults import Fault, World, only

SLOW = only("birch", 2, Fault(delay=5000))


def loses_birch(world: World, back_after_s: float | None = None) -> None:
    """Birch is lost 10 s after it was asked in round 2, and comes back or does not."""
    sleep, asked = world.clock.sleep, []
    world.hooks.append(
        lambda e: (
            asked.append(world.clock.now)
            if (e["event"], e.get("task"), e.get("round", 0)) == ("asked", "train", 2)
            else None
        )
    )

    def pass_time(seconds: float) -> None:
        sleep(seconds)
        if not asked:
            return
        since = world.clock.now - asked[0]
        if since > 10 and len(asked) == 1:
            asked.append(world.clock.now)
            del world.grid.here[2]
        if back_after_s and since > 10 + back_after_s and len(asked) == 2:
            asked.append(world.clock.now)
            world.grid.connect("birch", 2)

    world.clock.sleep = pass_time  # type: ignore[method-assign]


def second_round(world: World) -> dict:
    return world.logged("round")[1]


@pytest.mark.parametrize("gone_s", [60, 120, 600])
def test_a_site_lost_within_a_round_is_waited_for_so_long(
    make_world: Callable[..., World], gone_s: float
) -> None:
    world = make_world(SLOW, quorum=2, deadline_s=3600, gone_s=gone_s)
    loses_birch(world)
    world.run()
    assert gone_s - 60 <= second_round(world)["seconds"] <= gone_s + 30
    assert world.answered == [["alder", "birch", "cedar"], ["alder", "cedar"], ["alder", "cedar"]]
    assert (2, "birch", "not connected") in world.problems
    assert [(e["site"], e["silent_s"]) for e in world.logged("left")] == [("birch", 60)]
    assert line_of(made(world.logged("left")[0])) == "round 2, birch: disconnected"


def test_where_the_quorum_needs_it_it_is_waited_for_until_the_deadline(
    make_world: Callable[..., World],
) -> None:
    world = make_world(SLOW, quorum=3, deadline_s=3600)
    loses_birch(world)
    begun = world.clock.now
    with pytest.raises(QuorumError):
        world.run()
    assert world.clock.now - begun > 3600


def test_one_that_comes_back_in_time_is_asked_again_and_counts(
    make_world: Callable[..., World],
) -> None:
    world = make_world(only("birch", 2, Fault(delay=5000), attempt=0), quorum=2, deadline_s=3600)
    loses_birch(world, back_after_s=40)
    world.run()
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert status(world.folder.path)["sites"]["birch"]["heard"] is None


def test_the_status_tells_when_a_lost_site_was_last_heard_of(
    make_world: Callable[..., World],
) -> None:
    world = make_world(SLOW, quorum=2, deadline_s=3600)
    loses_birch(world)
    seen = []

    def look(event: dict) -> None:
        if event["event"] == "left":
            seen.append(status(world.folder.path)["sites"]["birch"])

    world.hooks.append(look)
    world.run()
    (one,) = seen
    assert one["state"] == "offline"
    written = next(e for e in records(world.folder) if e["event"] == "left")
    assert one["heard"] == written["time"] - 60


class KilledError(Exception):
    """Stands for the death of the ServerApp."""


def test_a_run_that_has_done_rounds_waits_for_its_sites_as_long_as_it_takes(
    make_world: Callable[..., World],
) -> None:
    world = make_world(quorum=2)
    world.expected = 3

    def kill(event: dict) -> None:
        if (event["event"], event.get("round"), event.get("task")) == ("asked", 2, "train"):
            world.hooks.clear()
            raise KilledError

    world.hooks.append(kill)
    with pytest.raises(KilledError):
        world.run()
    away, sleep, begun = dict(world.grid.here), world.clock.sleep, world.clock.now
    world.grid.here.clear()

    def come(seconds: float) -> None:
        sleep(seconds)
        for node, after_s in ((1, 4000), (2, 9000)):
            if world.clock.now - begun > after_s and node in away:
                world.grid.connect(away.pop(node), node)

    world.clock.sleep = come  # type: ignore[method-assign]
    world.run()
    assert world.clock.now - begun > 9000
    waits = world.logged("waiting")
    assert [event["missing"] for event in waits] == [
        ["alder", "birch", "cedar"], ["birch", "cedar"],
    ]  # fmt: skip
    assert (
        line_of(made(waits[1]))
        == "round 1: waiting for a quorum; 1 sites connected, missing: birch, cedar"
    )
    assert world.logged("finished")
    assert world.answered[-1] == ["alder", "birch"]


def test_a_run_without_a_round_ends_as_before(make_world: Callable[..., World]) -> None:
    """Nothing is lost by it, and a wrong quorum would wait for good."""
    world = make_world(quorum=3)
    world.expected = 3
    del world.grid.here[2]
    begun = world.clock.now
    with pytest.raises(QuorumError, match="2 of at least 3 sites answered"):
        world.run()
    assert world.clock.now - begun < 100
    assert world.logged("waiting") == []
