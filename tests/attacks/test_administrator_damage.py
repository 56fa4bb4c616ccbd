"""A bad day: files of a run's folder and of a site's service are damaged, one at a time.

Whatever the damage is, there is no traceback: the run goes on to the model of the run that nothing
happened to, or ends with an error of one line.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from client.service.daemon import programs
from client.service.status import ServiceFolder, read_status
from client.site.config import load_site
from mama.errors import MamaError
from server.cli import main
from server.run.folder import RunFolder
from tests.attacks.campaign import cases
from tests.attacks.damage import DAMAGES, Damage, gone, spoil
from tests.attacks.power import stopped_in
from tests.server.faults import World

ENDS = (0, 2, 4, 10)  # done, configuration, model, integrity
SITE = "site: north\ndata: {source: archive, dataset: dataset}\nstate: state\nsecret: secret.key\n"
COORDINATOR = {"address": "localhost:1", "pin": "0" * 64}


@pytest.fixture
def stopped(make_world: Any) -> World:
    """A run whose machine went off in its third round of three, with evaluations on the way."""
    return stopped_in(make_world(rounds=3, evaluate_every=1), 3)


def files_of(folder: Path) -> list[Path]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path for path in found if path.suffix in (".json", ".jsonl", ".yaml", ".safetensors")
    )


def go_on(world: World, folder: Path, command: Callable) -> str:
    """Look at a run's folder with all commands and go on with it; `same` or the error's line."""
    for name in ("status", "audit", "report"):
        ended = command(main, name, folder)
        assert ended.code in ENDS, ended
        assert ended.err.count("\n") <= 1, ended.err
    before = {path.name for path in RunFolder(folder).checkpoints()}
    again = World(RunFolder(folder), world.grid, world.app, world.clock)
    try:
        again.run()
    except MamaError as error:
        line = str(error)
    else:
        line = "same"
    if line != "same":
        assert "\n" not in line
        assert {path.name for path in RunFolder(folder).checkpoints()} == before
        return line
    for name in ("status", "audit"):
        assert command(main, name, folder).code in (0, 10)
    return "same"


def damaged_runs(world: World, command: Callable, count: int, tmp_path: Path) -> list[str]:
    """The outcomes of so many damaged copies of a stopped run."""
    whole, copy = world.folder.path, tmp_path / "copy"
    reference = tmp_path / "reference"
    shutil.copytree(whole, reference)
    assert go_on(world, reference, command) == "same"
    wanted = RunFolder(reference).latest().arrays
    draw = random.Random(1)
    plan = [(file, damage) for file in files_of(whole) for damage in DAMAGES]
    outcomes = []
    for number in range(count):
        file, damage = plan[number % len(plan)] if count > len(plan) else draw.choice(plan)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        spoil(copy / file, damage, draw)
        outcome = go_on(world, copy, command)
        outcomes.append(outcome)
        if outcome == "same":
            found = RunFolder(copy).latest().arrays
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted), file
        else:
            assert file.name in ("audit.jsonl", "experiment.yaml"), (file, damage, outcome)
    return outcomes


def test_some_damaged_runs(stopped: World, command: Callable, tmp_path: Path) -> None:
    outcomes = damaged_runs(stopped, command, 8, tmp_path)
    assert outcomes.count("same") > len(outcomes) / 2


@pytest.mark.slow
def test_many_damaged_runs(stopped: World, command: Callable, tmp_path: Path) -> None:
    outcomes = damaged_runs(stopped, command, cases(400), tmp_path)
    assert outcomes.count("same") > cases(200)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_report_of_a_damaged_outcome(
    make_world: Any, command: Callable, damage: Damage
) -> None:
    folder = make_world(rounds=1).run().folder.path
    spoil(folder / "metrics.json", damage, random.Random(3))
    ended = command(main, "report", folder)
    assert (ended.code, ended.err.count("\n")) == (2 if damage is gone else 10, 1)
    assert not (folder / "report.html").exists()


def test_a_damaged_service_folder(tmp_path: Path) -> None:
    """Status, and the supervisor's look at its node, for every shape of damage."""
    path = tmp_path / "site.yaml"
    path.write_text(SITE + yaml.safe_dump({"coordinator": COORDINATOR}))
    folder = ServiceFolder(load_site(path))
    folder.make()
    draw = random.Random(2)
    silent = programs(path, folder)[0].hangs
    for number in range(60):
        for file in (folder.node, folder.guard, folder.processes):
            file.write_bytes(b'{"process": 1, "registered": true}')
        spoil(
            (folder.node, folder.guard, folder.processes)[number % 3],
            DAMAGES[number % 4],
            draw,
        )
        assert not read_status(folder).serving
        assert silent(1) is False
