"""Queue of runs: repeated requests, a moved federation, and what a queued run waits for."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.system.sealed import read_sealed, write_sealed
from server.federation.home import Home
from server.run.folder import RunFolder
from server.service.job import job_of
from server.service.jobs import JobFile, ahead
from tests.events import made
from tests.server.bench import Bench, state

REASON = "start: 1 of at least 2 sites answered"
ENDINGS: list[dict[str, Any]] = [
    {"event": "stopped", "reason": "stopped on request"},
    {"event": "stopped", "reason": REASON, "exit_code": 6},
    {"event": "finished"},
]


@pytest.mark.parametrize("earlier", ENDINGS)
def test_a_run_asked_for_again_does_not_end_as_it_ended_before(
    bench: Bench, folder: Callable[[str], RunFolder], earlier: dict[str, Any]
) -> None:
    """Its ServerApp dies before it writes a line, as after kill -9 or on a starved machine."""
    run = folder("run")
    run.log(made({"event": "start"}))
    run.log(made(earlier))
    job = JobFile(bench.home, run.path)
    job.ask()
    for number in (1, 2):
        bench.steps()
        bench.control.ended.add(number)
        bench.steps()
        assert state(job) == "running"
    bench.steps()
    assert (bench.control.started, bench.finished) == (3, [])
    run.log(made({"event": "start"}))
    run.log(made({"event": "stopped", "reason": "the disk", "exit_code": 9}))
    bench.control.ended.add(3)
    bench.steps()
    found = job.read()
    assert found is not None
    assert (found.state, found.reason, found.exit_code) == ("failed", "the disk", 9)


def test_a_federation_that_was_moved_knows_its_runs(
    bench: Bench, folder: Callable[[str], RunFolder], tmp_path: Path
) -> None:
    run = folder("run")
    JobFile(bench.home, run.path).ask()
    bench.steps()
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.copytree(tmp_path, moved)
    shutil.rmtree(run.path)
    home = Home(moved / "federation.yaml")
    job = job_of(home, 1)
    assert job is not None
    assert job.out == moved / "run"
    assert JobFile(home, moved / "run").read() == job
    elsewhere = JobFile(
        home, run.path
    )  # outside of the federation's folder: its path is kept whole
    elsewhere.ask()
    assert elsewhere.read().out == run.path  # type: ignore[union-attr]


def test_what_a_queued_run_waits_for(bench: Bench, folder: Callable[[str], RunFolder]) -> None:
    runs = [folder(name).path for name in ("one", "two", "three")]
    files = [JobFile(bench.home, run) for run in runs]
    assert ahead(bench.home, files[0]) == []
    for file in files:
        file.ask()
    bench.steps()
    assert [ahead(bench.home, file) for file in files] == [[], runs[:1], runs[:2]]


def test_a_job_of_an_older_version_is_read(
    bench: Bench, folder: Callable[[str], RunFolder]
) -> None:
    job = JobFile(bench.home, folder("run").path)
    before = job.ask().model_copy(update={"events_before": 7})
    job.write(before)
    values = read_sealed(job.path)
    assert values is not None
    values["told"] = values.pop("events_before")
    write_sealed(job.path, values)
    assert job.read() == before
