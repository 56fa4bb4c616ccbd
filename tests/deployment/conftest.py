"""Federation of real processes, shared by tests: services start once, runs follow in turn."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from client.service.status import ServiceFolder, Status, read_status
from client.site.config import load_site
from mama.config import Experiment
from mama.exchange.fingerprint import describe
from mama.exchange.tensors import trained_arrays
from mama.model import build_model
from server.run.folder import RunFolder
from server.service.control import bundle
from server.service.follow import follow, submit
from server.service.job import Job
from sim.engines.deployment import LocalDeployment
from tests.waiting import PATIENCE_S, wait_for


@dataclass
class Run:
    """One run of the shared federation, watched by a thread."""

    folder: RunFolder
    events: list[dict] = field(default_factory=list)
    job: Job | None = None
    error: Exception | None = None
    thread: threading.Thread | None = None

    def wait_for_round(self, number: int) -> None:
        """Wait until a round is done."""
        wait_for(
            lambda: (
                self.error
                or any(e["event"] == "round" and e["round"] >= number for e in self.events)
            ),
            f"round {number}",
        )
        assert self.error is None, self.error

    def wait_for_another_round(self) -> None:
        """Wait until one more is done than now."""
        self.wait_for_round(
            1 + max((e["round"] for e in self.events if e["event"] == "round"), default=0)
        )

    def finish(self) -> dict[str, Any]:
        """Wait for the end; returns metrics.json."""
        assert self.thread is not None
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        assert self.error is None, self.error
        assert self.job is not None
        assert self.job.state == "finished"
        return json.loads((self.folder.path / "metrics.json").read_text())


class Federation:
    """A running box and what tests do to it."""

    def __init__(self, box: LocalDeployment, config: Callable[..., Any], folder: Path):
        self.box, self.config, self.folder = box, config, folder
        self.runs = 0

    def start(self, *overrides: str) -> Run:
        """Ask for a run of the small experiment and watch it."""
        self.runs += 1
        experiment: Experiment = self.config(*overrides).experiment()
        model = build_model(experiment)
        out = self.folder / f"run{self.runs}"
        return self.ask(RunFolder.create(out, experiment, trained_arrays(model), describe(model)))

    def ask(self, folder: RunFolder) -> Run:
        """Ask for the run in a folder, for the first time or again, and watch it."""
        run = Run(folder)

        def watch() -> None:
            try:
                job = submit(self.box.home, folder.path)
                run.job = follow(self.box.home, job, lambda e: run.events.append(e.record()))
            except Exception as error:
                run.error = error

        run.thread = threading.Thread(target=watch, daemon=True)
        run.thread.start()
        return run

    def kill(self, name: str) -> int:
        """kill -9 one of the processes; returns its id."""
        process = wait_for(lambda: self.box.processes().get(name), name)
        os.kill(process, signal.SIGKILL)
        return process

    def status(self, site: str) -> Status:
        """What a site says of itself."""
        return read_status(ServiceFolder(load_site(self.box.sites[site])))

    def wait_until_serving(self) -> None:
        """Wait until every site can work."""
        for site in self.box.sites:
            wait_for(lambda site=site: self.status(site).serving, f"{site} to serve")


@pytest.fixture
def another_federation(
    small_config: Callable[..., Any], made_sites: Path, tmp_path: Path
) -> Iterator[Federation]:
    """One hospital and a coordinator of its own, running."""
    shutil.copytree(made_sites / "sites" / "birch", tmp_path / "birch")
    box = LocalDeployment(tmp_path / "box")
    box.join(tmp_path / "birch" / "site.yaml")
    with box.running():
        yield Federation(box, small_config, tmp_path)


@pytest.fixture(scope="session")
def federation(
    small_config: Callable[..., Any], made_sites: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Federation]:
    """Three hospitals and a coordinator, running; only alder restricts bundles, to the true one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("federation")
    shutil.copytree(made_sites / "sites", folder / "hospitals")
    box = LocalDeployment(folder / "box")
    for path in sorted((folder / "hospitals").glob("*/site.yaml")):
        settings = yaml.safe_load(path.read_text()) | {"threads": 1}
        if path.parent.name == "alder":
            settings["policy"]["bundles"] = [bundle().hash_str]
        path.write_text(yaml.safe_dump(settings))
        box.join(path)
    with box.running():
        yield Federation(box, small_config, folder)
