"""Files and terminal output are UTF-8 whatever the machine's locale."""

import ast
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip("flwr")  # of the sites

ROOT = Path(__file__).parents[3]
WORDS = "Größe des Herdes fünf Millimeter – unverändert."
# Python's own ways out of an old locale are off.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HF_HUB_OFFLINE": "1"}


def run(package: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    code = f"from {package}.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(os.fsencode, map(str, arguments))],
        cwd=ROOT,
        env={**os.environ, **ASCII},
        capture_output=True,
    )


@pytest.fixture
def site_file(site_files: Callable[..., list[Path]]) -> Path:
    """Site in a folder with an umlaut; its first report and its file's comment have them too."""
    path = site_files("Zürich")[0]
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    source = path.parent / settings["data"]["source"]
    own = path.parent / "raw"
    own.mkdir()
    for entry in source.iterdir():
        if entry.name != "reports.csv":
            (own / entry.name).symlink_to(entry)
    with open(source / "reports.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    rows[0]["report"] = WORDS
    with open(own / "reports.csv", "w", encoding="utf-8", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    settings["data"]["source"] = "raw"
    text = "# Städtisches Klinikum Zürich – Radiologie\n" + yaml.safe_dump(settings)
    path.write_text(text, encoding="utf-8")
    return path


def test_ingest_check_and_train(site_file: Path, small_config: Callable, tmp_path: Path) -> None:
    config = yaml.safe_dump(small_config().experiment().model_dump(mode="json"))
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(f"# für Zürich\n{config}", encoding="utf-8")
    ended = run("client", "ingest", site_file, "--long-side", 96)
    assert ended.returncode == 0, ended.stderr.decode()
    manifest = json.loads((site_file.parent / "dataset/manifest.json").read_bytes())
    sentences = [s["text"] for study in manifest["records"] for s in study["sentences"]]
    assert WORDS in sentences
    ended = run("client", "check", site_file, "--experiment", experiment)
    assert b"Traceback" not in ended.stderr
    assert b"PASS  one step" in ended.stdout, ended.stdout.decode() + ended.stderr.decode()


def test_an_experiment_with_an_accent_is_read_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "größe.yaml"
    path.write_text("größe: ja # später\n", encoding="utf-8")
    ended = run("sim", "run", path)
    assert ended.returncode == 2
    assert ended.stderr.decode().count("\n") == 1
    assert "größe.yaml" in ended.stderr.decode()


def test_a_name_that_the_locale_cannot_write_is_one_line(site_file: Path) -> None:
    text = site_file.read_text(encoding="utf-8").replace("dataset: dataset", "dataset: Bildmaß")
    site_file.write_text(text, encoding="utf-8")
    ended = run("client", "ingest", site_file, "--long-side", 96)
    assert ended.returncode == 8
    said = ended.stderr.decode()
    assert said.count("\n") == 1
    assert "Bildmaß" in said
    assert "LC_ALL=C.UTF-8" in said


TEXT_MODE = {"read_text", "write_text", "open", "fdopen", "NamedTemporaryFile", "TemporaryFile"}
HANDLERS = {"FileHandler", "RotatingFileHandler"}


def _is_text(call: ast.Call, name: str) -> bool:
    """Return True if a call opens a file, or a process's output, as text."""
    given = {word.arg: word.value for word in call.keywords}
    if name in HANDLERS or name in ("read_text", "write_text"):
        return True
    if any(
        getattr(given.get(word), "value", False) is True for word in ("text", "universal_newlines")
    ):
        return True
    if name not in TEXT_MODE:
        return False
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name == "open" and owner in ("os", "Image", "Picture"):
        return False
    strings = [a.value for a in [*call.args, *given.values()] if isinstance(a, ast.Constant)]
    modes = [text for text in strings if isinstance(text, str) and set(text) <= set("rwaxbt+")]
    default = "b" if "Temporary" in name else "r"
    return "b" not in (modes[0] if modes else default)


def test_nothing_of_ours_follows_the_locale() -> None:
    """Ruff's PLW1514 finds only the paths whose type it can see."""
    found, seen = [], 0
    for package in ("mama", "client", "server", "sim"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                ours = name == "write_text" and isinstance(node.func, ast.Name)  # mama.system.files
                if ours or not _is_text(node, name):
                    continue
                seen += 1
                given = {word.arg for word in node.keywords}
                if "encoding" not in given and not (name == "read_text" and node.args):
                    found.append(f"{path}:{node.lineno}")
    assert seen > 20
    assert found == []
