"""Query for statistics: once a run, before its first round, and in nobody's way."""

import json
from collections.abc import Callable

import pytest

from mama.exchange.statistics import DataStatistics, Table
from tests.server.faults import Fault, World

FOUND = DataStatistics(
    minimum=5,
    patients=60,
    studies=60,
    tables={"density": Table(total=60, cells={"A": 30, "B": 30})},
)


def told(world: World) -> dict[str, object]:
    return {
        event["site"]: event.get("problem") or event.get("statistics")
        for event in world.logged("statistics")
    }


def asked(world: World) -> list[str]:
    return [task.task for task in world.grid.pushed if task.kind == "statistics"]


def with_fault(of_birch: Fault) -> Callable[..., Fault]:
    def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
        return of_birch if (site, kind) == ("birch", "statistics") else Fault()

    return plan


def test_each_site_is_asked_once_and_may_have_none(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.app.statistics = {"alder": FOUND}
    world.run()
    assert told(world) == {"alder": FOUND.model_dump(), "birch": None, "cedar": None}
    assert sorted(asked(world)) == [f"statistics-0-{s}" for s in ("alder", "birch", "cedar")]
    assert world.problems == []
    assert world.answered == [["alder", "birch", "cedar"]] * 3


@pytest.mark.parametrize(
    "fault", [Fault(delay=10**6), Fault(lost=True), Fault(error=1), Fault(noise=True)]
)
def test_a_site_that_does_not_answer_delays_nothing(
    make_world: Callable[..., World], fault: Fault
) -> None:
    usual = make_world(out="usual").run().clock.now
    world = make_world(plan=with_fault(fault)).run()
    assert world.clock.now == usual
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert world.problems == []
    assert set(told(world)) >= {"alder", "cedar"}


@pytest.mark.parametrize(
    "change",
    [
        lambda h, d: (json.dumps(json.loads(h) | {"statistics": {"rows": ["Doe"] * 999}}), d),
        lambda h, d: (json.dumps(json.loads(h) | {"run": "another"}), d),
        lambda h, d: ("\x1b[31m", d),
    ],
)
def test_a_bad_answer_is_noted_and_does_not_count(
    make_world: Callable[..., World], change: Callable[..., tuple[str, bytes]]
) -> None:
    world = make_world(plan=with_fault(Fault(change=change))).run()
    said = told(world)["birch"]
    assert isinstance(said, str)
    assert said.isprintable()
    assert "Doe" not in said
    assert world.answered == [["alder", "birch", "cedar"]] * 3


def test_a_site_of_the_protocol_before_is_not_asked(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.app.older = {"birch"}
    world.run()
    assert set(told(world)) == {"alder", "cedar"}
    assert world.answered == [["alder", "birch", "cedar"]] * 3


def test_a_server_that_was_killed_asks_only_those_who_had_not_answered(
    make_world: Callable[..., World],
) -> None:
    world = make_world()

    def die(event: dict) -> None:
        if event["event"] == "statistics" and event["site"] == "alder":
            raise KeyboardInterrupt

    world.hooks.append(die)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.hooks.clear()
    world.grid.pushed.clear()
    world.run()
    assert "statistics-0-alder" not in asked(world)
    assert set(asked(world)) == {"statistics-0-birch", "statistics-0-cedar"}
    assert set(world.folder.history().statistics) == {"alder", "birch", "cedar"}
    world.grid.pushed.clear()
    world.run()  # after the last round
    assert asked(world) == []
