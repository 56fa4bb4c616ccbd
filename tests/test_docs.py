"""The commands of docs/method.md, on films drawn here and with two steps of training."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
