"""Query for statistics: once a run, before its first round, and in nobody's way."""

import json
from collections.abc import Callable

import pytest

from mama.exchange.metrics import DataStatistics, Table
from tests.server.faults import Fault, Plan, World

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


def with_faults(**faults: Fault) -> Plan:
    def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
        return faults[site] if kind == "statistics" else Fault()

    return plan


def test_each_site_is_asked_once_and_may_have_none(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.app.statistics = {"alder": FOUND}
    world.run()
    assert told(world) == {"alder": FOUND.model_dump(), "birch": None, "cedar": None}
    assert sorted(asked(world)) == [f"statistics-0-{s}" for s in ("alder", "birch", "cedar")]
    assert world.problems == []
    assert world.answered == [["alder", "birch", "cedar"]] * 3


def test_sites_that_do_not_answer_delay_nothing(make_world: Callable[..., World]) -> None:
    usual = make_world(out="usual").run()
    silent = with_faults(alder=Fault(delay=10**6), birch=Fault(lost=True), cedar=Fault(error=1))
    world = make_world(plan=silent).run()
    # Clocks start alike, and only waiting moves them.
    assert world.clock.now == usual.clock.now
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert world.problems == []


def test_bad_answers_are_noted_and_do_not_count(make_world: Callable[..., World]) -> None:
    def lie(header: str, data: bytes) -> tuple[str, bytes]:
        return json.dumps(json.loads(header) | {"statistics": {"rows": ["Doe"] * 999}}), data

    def confuse(header: str, data: bytes) -> tuple[str, bytes]:
        return json.dumps(json.loads(header) | {"run": "another"}), data

    bad = with_faults(
        alder=Fault(change=lie),
        birch=Fault(change=confuse),
        cedar=Fault(change=lambda header, data: ("\x1b[31m", data)),
    )
    world = make_world(plan=bad).run()
    said = told(world)
    assert said["alder"] == "statistics: header does not follow the protocol"
    assert said["birch"] == "birch: answer belongs to another task"
    assert said["cedar"] == "header does not follow the protocol"
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    assert world.problems == []


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
