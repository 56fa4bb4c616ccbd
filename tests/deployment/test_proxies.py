"""Federation in a box with a nonexistent proxy in every variable: it is never used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL

pytestmark = pytest.mark.slow
NAMES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy")


def test_a_box_runs_behind_a_proxy(tmp_path: Path) -> None:
    settings = [w for line in [*SMALL, "federation.rounds=1"] for w in ("--set", line)]
    command = ["run", str(ROOT / "configs/quickstart.yaml"), "--engine", "deployment", "--quiet"]
    long = tmp_path / ("a_long_name_of_a_job_" * 5)
    long.mkdir()
    ended = subprocess.run(
        [
            *(sys.executable, "-c", "from sim.cli import main; main()"),
            *(*command, "--out", str(tmp_path / "run"), *settings),
        ],
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
            **dict.fromkeys(NAMES, "http://127.0.0.1:9"),
            "TMPDIR": str(long),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["status"], metrics["problems"]) == ("finished", [])
