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
from mama.cli import main
from mama.final.saved import save_final
from mama.model import build_model

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
        subprocess.run(program, check=True, cwd=tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["zero_shot"]["density"]["n"] == 12


@pytest.fixture
def run(
    made_sites: Path,
    small_config: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Folder `runs/` as after `make demo`, with a small model that was not trained."""
    folder = tmp_path / "runs" / "quickstart-1"
    experiment = small_config().experiment()
    save_final(folder / "final", build_model(experiment), experiment)
    for name in ("hospitals", "sites"):
        (folder / name).symlink_to(made_sites / name)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_readmes_python_runs(run: Path, capsys: pytest.CaptureFixture) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(block, {})
    probabilities, cosines = capsys.readouterr().out.splitlines()
    assert sum(map(float, re.findall(r"\d\.\d+", probabilities))) == pytest.approx(1)
    found = [float(cosine) for cosine in re.findall(r"-?\d\.\d+", cosines)]
    assert len(found) == 2
    assert all(abs(cosine) <= 1 for cosine in found)


def test_the_models_page_runs(
    run: Path, tmp_path: Path, command: Callable[..., Any], capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "report.txt").write_text("Dense breasts. No mass.")
    places = {
        "path/to/run": run,
        "path/to/image.dcm": next(run.glob("hospitals/alder/dicom/*/1.dcm")),
        "path/to/report.txt": tmp_path / "report.txt",
        "path/to/dataset": run / "sites" / "alder" / "dataset",
    }
    page = (ROOT / "docs" / "model.md").read_text()
    for place, path in places.items():
        page = page.replace(place, str(path))
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(block, {})
    assert capsys.readouterr().out.count("tensor") == 1
    (block,) = re.findall(r"```bash\n(.*?)```", page, re.S)
    for line in block.splitlines():
        ended = command(main, *shlex.split(line)[1:])
        assert (ended.code, ended.err) == (0, ""), line
    exported = {path.name for path in (tmp_path / "exported").iterdir()}
    named = set(re.findall(r"`([a-z]+(?:/|\.json|\.safetensors))`", page.partition("| file")[2]))
    assert exported - {"README.md"} == {name.rstrip("/") for name in named} - {
        "metrics.json",
        "final",
    }
    assert (tmp_path / "maps.png").is_file()
    assert (tmp_path / "embeddings.parquet").is_file()


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
