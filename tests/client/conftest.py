"""One small ingested hospital, and what a server would ask of it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mama.config import Experiment
from mama.exchange.codecs.coding import encode
from mama.exchange.protocol import Kind, Task
from mama.exchange.tensors import trained_arrays
from mama.model import build_model
from tests.client.authority import Authority


@pytest.fixture
def experiment(small_config: Callable[..., Any]) -> Experiment:
    return small_config().experiment()


@pytest.fixture(scope="session")
def payload(small_config: Callable[..., Any]) -> bytes:
    """The small experiment's initial model, as a server sends it."""
    torch.set_num_threads(1)
    return encode(trained_arrays(build_model(small_config().experiment())))


@pytest.fixture
def site_file(site_files: Callable[..., list[Path]]) -> Path:
    return site_files("sites")[0]


@pytest.fixture
def federation(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def edit(site_file: Path) -> Callable[..., Path]:
    """Change keys of the site file; rules of its policy are added to those that are there."""

    def change(**values: Any) -> Path:
        settings = yaml.safe_load(site_file.read_text())
        if "policy" in values:
            values["policy"] = settings["policy"] | values["policy"]
        site_file.write_text(yaml.safe_dump(settings | values))
        return site_file

    return change


@pytest.fixture
def in_child() -> Callable[..., int | bytes]:
    """Run in a child process that may die; return its result, or the signal that killed it."""
    if torch.cuda.is_available():
        pytest.skip("a process that has used a GPU cannot fork")

    def run(work: Callable[[], bytes]) -> int | bytes:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 1
            try:
                os.write(writing, work())
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        with open(reading, "rb") as pipe:
            said = pipe.read()
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else said

    return run


@pytest.fixture
def make_task(experiment: Experiment) -> Callable[..., Task]:
    """A task of the small experiment, with changes."""

    def make(kind: Kind = "train", *, of: Experiment = experiment, **changed: Any) -> Task:
        values = {
            "run": "run-1",
            "round": 1,
            "task": f"{kind}-1-alder",
            "kind": kind,
            "experiment": of.canonical_json(),
            "experiment_hash": of.hash(),
        }
        return Task(**(values | changed))

    return make
