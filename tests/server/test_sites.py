"""What goes to the sites beside the model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.folder import Event
from tests.server import faults
from tests.server.faults import World


def test_every_task_carries_the_roster_as_it_is_then(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world()
    world.roster = tmp_path / "roster.json"
    world.roster.write_text("version 1\n")

    def enrol(event: Event) -> None:
        if event["event"] == "round" and event["round"] == 2:
            (tmp_path / "roster.json").write_text("version 2\n")

    world.hooks.append(enrol)
    world.run()
    found = {(task.kind, task.round, task.roster) for task in world.grid.pushed}
    assert found == {
        ("describe", 0, "version 1"),
        ("train", 1, "version 1"),
        ("train", 2, "version 1"),
        ("train", 3, "version 2"),
        ("evaluate", 3, "version 2"),
        ("finish", 3, "version 2"),
    }


def test_without_a_federations_home_there_is_none(make_world: Callable[..., World]) -> None:
    assert {task.roster for task in make_world().run().grid.pushed} == {None}


def test_a_site_of_the_protocol_before_takes_part(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world()
    world.roster = tmp_path / "roster.json"
    world.roster.write_text("version 1")
    world.app.older = {"birch"}
    world.run()
    assert world.problems == []
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    of_birch = {
        (task.kind, task.protocol)
        for task in world.grid.pushed
        if task.task.endswith(("birch", "node-2"))
    }
    assert of_birch == {
        ("describe", 2),  # refused, so it is asked again
        ("describe", 1),
        ("train", 1),
        ("evaluate", 1),
        ("finish", 1),
    }
    assert {task.protocol for task in world.grid.pushed if task.task.endswith("alder")} == {2}


def test_a_site_that_was_updated_and_comes_back_is_asked_in_the_new_one(
    make_world: Callable[..., World],
) -> None:
    world = make_world(sites=("alder", "birch"), quorum=1)
    world.app.older = {"birch"}

    def update(event: Event) -> None:
        if event["event"] == "round" and event["round"] == 1:
            world.app.older.clear()
            del world.grid.here[2]
            world.grid.connect("birch", 3)

    world.hooks.append(update)
    world.run()
    assert world.answered == [["alder", "birch"]] * 3
    spoken = {
        task.round: task.protocol
        for task in world.grid.pushed
        if "train" in task.task and "birch" in task.task
    }
    assert spoken == {1: 1, 2: 2, 3: 2}


def test_a_site_that_goes_on_refusing_is_asked_twice_and_no_more(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "FIRST_KEYS", set())  # nothing is to its liking
    world = make_world(quorum=2)
    world.app.older = {"birch"}
    world.run()
    assert world.grid.attempts["birch", "describe-0-node-2"] == 2
    assert world.answered == [["alder", "cedar"]] * 3
    assert world.problems[0] == (0, "birch", "The task is not one that this site understands.")
