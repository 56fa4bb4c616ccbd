"""Flower's simulation engine and ours are the same federation."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sim.run import federate

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

# The engine in a process of its own, as a console script runs it.
RUN = """
import sys
from pathlib import Path
from mama.config import Experiment
from mama.configfile import load
from mama.errors import MamaError
from sim.run import federate
experiment, out, *files = map(Path, sys.argv[1:])
try:
    federate(load(Experiment, experiment), files, out, engine="flower")
except MamaError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def ray_processes() -> dict[int, str]:
    """Ray's processes on this machine, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and any(
            word in text for word in ("raylet", "gcs_server", "ray::", "ray/_private", "ray/dashboard")
        ):
            found[int(entry.name)] = text
    return found


def run_flower_engine(
    experiment: Any, files: list[Path], out: Path, home: Path
) -> tuple[int, str, set[int]]:
    """Exit code, stderr, and Ray's processes that are left a while after the end."""
    (home / "client").mkdir(parents=True)
    (home / "client" / "__init__.py").write_text(
        f"open({str(home / 'decoy-was-imported')!r}, 'w').close()\n"
    )
    (home / "experiment.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    (home / "run.py").write_text(RUN)
    before = set(ray_processes())
    ended = subprocess.run(
        # -P: the script's folder, which holds the decoy, is not on the path; the workers' may be.
        [sys.executable, "-P", "run.py", "experiment.yaml", out, *files],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    for _ in range(50):
        left = set(ray_processes()) - before
        if not left:
            break
        time.sleep(0.2)
    return ended.returncode, ended.stderr, left


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
    experiment = small_config().experiment()
    federate(experiment, one_thread_sites("a"), tmp_path / "here")
    files = one_thread_sites("b")
    code, errors, left = run_flower_engine(
        experiment, files, tmp_path / "there", tmp_path / "home"
    )

    assert code == 0, errors
    assert left == set()
    assert not (tmp_path / "home" / "decoy-was-imported").exists()
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [
        "client",
        "experiment.yaml",
        "run.py",
    ]
    here, there = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("here", "there")
    )
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-5, msg=name)
    metrics = [
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("here", "there")
    ]
    assert metrics[0]["rounds"] == metrics[1]["rounds"] == 2
    assert metrics[0]["sites"] == metrics[1]["sites"] == ["alder", "birch", "cedar"]
    assert metrics[1]["problems"] == []


def test_too_few_sites_end_flowers_engine_the_same_way(
    small_config: Any, one_thread_sites: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    experiment = small_config("federation.quorum=4").experiment()
    code, errors, left = run_flower_engine(
        experiment, one_thread_sites("sites"), tmp_path / "out", tmp_path / "home"
    )
    assert code == 6, errors
    assert "start: 3 of at least 4 sites answered" in errors
    assert "Traceback" not in errors
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["status"] == "stopped"
    assert left == set()
