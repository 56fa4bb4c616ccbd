"""A federation with one site and a queue whose SuperLink ends runs when a test says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.exchange.signing import write_key_pair
from server.federation.home import Home
from server.federation.provision import provision
from server.federation.roster import enrol
from server.run.folder import RunFolder
from server.service import jobs
from server.service.jobs import JobFile, JobRunner


class FakeControl:
    """The SuperLink's side: runs that end when a test says so."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: set[int] = set()
        self.stopped: list[int] = []

    def start_run(self) -> int:
        self.started += 1
        return self.started

    def run_ended(self, run: int) -> bool:
        return run in self.ended

    def stop_run(self, run: int) -> None:
        self.stopped.append(run)
        self.ended.add(run)


class Bench:
    """A provisioned federation with one site, a job runner, and what it did."""

    def __init__(self, home: Home):
        self.home, self.control, self.finished = home, FakeControl(), []
        self.serverapp = False
        self.runner = JobRunner(home, self.control, lambda: self.serverapp)  # type: ignore[arg-type]

    def steps(self, number: int = 1) -> None:
        for _ in range(number):
            self.runner.step()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    path = tmp_path / "federation.yaml"
    path.write_text("name: demo\naddress: fl.example.org:8443\n")
    home = Home(path)
    provision(home)
    home.jobs.mkdir()
    write_key_pair(tmp_path / "node.key", tmp_path / "node.pub")
    enrol(home, "alder", tmp_path / "node.pub")
    made = Bench(home)
    monkeypatch.setattr(jobs, "PAUSE_S", 0.0)
    monkeypatch.setattr(
        jobs,
        "finish",
        lambda folder, models, *, complete: made.finished.append((folder.path.name, complete)),
    )
    return made


@pytest.fixture
def folder(
    new_run: Callable[..., RunFolder], small_config: Callable[..., Any], tmp_path: Path
) -> Callable[[str], RunFolder]:
    return lambda name: new_run(small_config().experiment(), tmp_path / name)


def state(job: JobFile) -> str:
    found = job.read()
    assert found is not None
    return found.state
