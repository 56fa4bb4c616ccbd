"""Documentation in practice: the commands of docs/method.md, and settings of other pages."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.site.config import load_site
from tests.conftest import SMALL

ROOT = Path(__file__).parents[1]
SHORT = ["--set", "federation.rounds=1", "--set", "federation.local_steps=2"]


@pytest.mark.slow
def test_the_methods_commands_run_as_written(
    make_films: Callable[..., Path], tmp_path: Path
) -> None:
    films = str(make_films(patients=12))
    block = re.search(r"```\n(mama ingest.*?)```", (ROOT / "docs" / "method.md").read_text(), re.S)
    assert block
    commands = [shlex.split(line) for line in block[1].splitlines()]
    assert [command[1] for command in commands] == ["ingest", "train", "evaluate"]
    for command in commands:
        known = {
            "path/to/films": films,
            "path/to/other/films": films,
            "configs/mias.yaml": str(ROOT / "configs" / "mias.yaml"),
        }
        words = [known.get(word, word) for word in command[1:]]
        words += SHORT if words[0] == "train" else []
        program = [sys.executable, "-c", "from mama.cli import main; main()", *words]
        subprocess.run(program, check=True, cwd=tmp_path, timeout=300)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["zero_shot"]["density"]["n"] == 12


@pytest.mark.slow
def test_the_readmes_python_runs_on_a_run_of_the_quickstart(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    short = [word for setting in SMALL for word in ("--set", setting)]
    words = ["run", str(ROOT / "configs" / "quickstart.yaml"), "--quiet", *short]
    program = [sys.executable, "-c", "from sim.cli import main; main()", *words]
    subprocess.run(program, check=True, cwd=tmp_path, timeout=300)
    command = [sys.executable, "-c", block]
    shown = subprocess.run(
        command, check=True, cwd=tmp_path, timeout=120, capture_output=True, text=True
    )
    cosines = re.findall(r"-?\d\.\d+", shown.stdout)
    assert len(cosines) == 2
    assert all(abs(float(cosine)) <= 1 for cosine in cosines)


def test_the_privacy_pages_experiments_are_read(small_config: Callable[..., Any]) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "privacy.md").read_text(), re.S)
    read = []
    for block in blocks:
        sections = yaml.safe_load(block)
        overrides = [
            f"{section}.{key}={json.dumps(value)}"
            for section, values in sections.items()
            for key, value in values.items()
        ]
        read.append(small_config(*overrides, "simulation.sites=5").privacy)
    assert [(one.mode, one.secure is not None) for one in read] == [
        ("patient", False), ("patient", True), ("site", False),
    ]  # fmt: skip


def test_the_site_pages_rules_are_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "site.md").read_text()
    (rules,) = re.findall(r"```yaml\n(policy:.*?)```", page, re.S)
    base = "site: north\ndata: {source: a, dataset: b}\nstate: c\nsecret: d\n"
    (tmp_path / "site.yaml").write_text(base + rules)
    site = load_site(tmp_path / "site.yaml")
    assert (site.policy.min_cohort, site.budget.epsilon, site.peers.minimum_sites) == (3, 8, 3)  # type: ignore[union-attr]
