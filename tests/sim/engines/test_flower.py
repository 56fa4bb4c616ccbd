"""Flower's simulation engine and the in-process engine give the same federation."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sim.run import federate
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow

# The engine in a process of its own, as a console script runs it.
RUN = """
import sys
from pathlib import Path
from mama.config import Experiment
from mama.config.load import load
from mama.errors import MamaError
from sim.run import federate
experiment, out, *files = map(Path, sys.argv[1:])
try:
    federate(load(Experiment, experiment), files, out, engine="flower")
except MamaError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Ended(NamedTuple):
    """How a run ended; `seen` and `left` are names of its processes while it ran and afterwards."""

    code: int
    err: str
    seen: set[str]
    left: set[str]


def processes(mark: str) -> set[str]:
    """Names of all processes that inherited a mark in their environment."""
    names = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                names.add((entry / "comm").read_text().strip())
        except OSError:
            continue
    return names


def run_flower_engine(experiment: Any, files: list[Path], out: Path, home: Path) -> Ended:
    """Run from a folder in which another `client` package lies."""
    (home / "client").mkdir(parents=True)
    (home / "client" / "__init__.py").write_text(
        f"open({str(home / 'decoy-was-imported')!r}, 'w').close()\n"
    )
    (home / "experiment.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    (home / "run.py").write_text(RUN)
    mark, seen = uuid4().hex, set()
    with open(home.with_suffix(".log"), "w+") as log:
        run = subprocess.Popen(
            # -P: the script's folder, which holds the decoy, is not on its path, as for a console
            # script. Relative paths, as a person gives them: the engine works in another folder.
            [
                sys.executable,
                "-P",
                "run.py",
                "experiment.yaml",
                *(os.path.relpath(path, home) for path in (out, *files)),
            ],
            cwd=home,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FEDMAMA_MARK": mark},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            end = time.monotonic() + 1100
            while run.poll() is None and time.monotonic() < end:
                seen |= processes(mark)
                time.sleep(0.5)
        finally:
            run.kill()
            code = run.wait()
        log.seek(0)
        errors = log.read()
    wait_until(lambda: not processes(mark))
    return Ended(code, errors, seen, processes(mark))


@pytest.fixture
def one_thread_sites(site_files: Callable[..., list[Path]]) -> Callable[[str], list[Path]]:
    def copy(name: str) -> list[Path]:
        files = site_files(name)
        for path in files:
            path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"threads": 1}))
        return files

    return copy


def test_both_engines_train_the_same_model(
    small_config: Any, one_thread_sites: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    # A busy machine must not make a site miss its deadline.
    experiment = small_config("participation={quorum: 3, deadline_s: 800}").experiment()
    federate(experiment, one_thread_sites("a"), tmp_path / "here")
    files = one_thread_sites("b")
    ended = run_flower_engine(experiment, files, tmp_path / "there", tmp_path / "home")

    assert ended.code == 0, ended.err
    assert "raylet" in ended.seen
    assert ended.left == set()
    assert not (tmp_path / "home" / "decoy-was-imported").exists()
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [
        "client",
        "experiment.yaml",
        "run.py",
    ]
    metrics = [
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("here", "there")
    ]
    assert metrics[0]["rounds"] == metrics[1]["rounds"] == 2
    assert metrics[0]["sites"] == metrics[1]["sites"] == ["alder", "birch", "cedar"]
    assert metrics[1]["problems"] == []
    here, there = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("here", "there")
    )
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_too_few_sites_end_flowers_engine_the_same_way(
    small_config: Any, one_thread_sites: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    experiment = small_config("participation.quorum=4").experiment()
    files = one_thread_sites("sites")
    ended = run_flower_engine(experiment, files, tmp_path / "out", tmp_path / "home")
    assert ended.code == 6, ended.err
    assert "start: 3 of at least 4 sites answered" in ended.err
    assert "Traceback" not in ended.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["status"] == "stopped"
    assert ended.left == set()
