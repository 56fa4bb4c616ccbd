"""`mama evaluate`: its protocols, another model beside the first, and groups."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.cli import main
from mama.config import Experiment
from mama.final.saved import save_final
from mama.model import build_model


def test_two_models_and_groups_fit_into_80_columns(
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    final: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "figures.json"
    options = ("--against", final, "--by", "density", "--by", "side", "--json", out)
    ended = command(main, "evaluate", final, make_films(), "--adapter", "mias", *options)
    assert (ended.code, ended.err) == (0, "")
    *lines, path = ended.out.splitlines()
    assert path == f"metrics: {out}"
    assert max(map(len, lines)) <= 80
    card = json.loads(out.read_text())["zero_shot"]["suspicious"]
    assert card["against"]["auc"]["other"] == card["figures"]["auc"]["value"]
    assert card["against"]["auc"]["difference"]["value"] == 0
    assert list(card["by"]) == ["density", "side"]
    assert set(card["by"]["side"]) == {"L", "R"}
    for groups in card["by"].values():
        assert sum(group["n"] for group in groups.values()) == card["n"]


@pytest.fixture
def dataset(command: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path) -> Path:
    """An ingested dataset with training and test studies."""
    arguments = ("--adapter", "mias", "--long-side", 32, "--test-fraction", 0.5)
    ended = command(main, "ingest", make_films(patients=40), tmp_path / "dataset", *arguments)
    assert ended.code in (0, 3), ended.err
    return tmp_path / "dataset"


def test_a_linear_probe_and_fewer_labels(
    command: Callable[..., Any],
    dataset: Path,
    final: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    options = ("--protocol", "linear-probe", "--json", tmp_path / "figures.json")
    ended = command(main, "evaluate", final, dataset, *options)
    assert (ended.code, ended.err) == (0, "")
    found = json.loads((tmp_path / "figures.json").read_text())["linear_probe"]
    assert list(found) == ["density", "suspicious"]
    assert found["density"]["n"] == found["suspicious"]["n"] / 2
    assert list(found["density"]["curve"]) == ["0.01", "0.1"]
    assert "linear-probe density: " in ended.out
    assert "1 %: 1" in ended.out
    assert max(map(len, ended.out.splitlines()[:-1])) <= 80


def test_a_raw_folder_has_nothing_to_fit_a_probe_to(
    command: Callable[..., Any], make_films: Callable[..., Path], final: Path
) -> None:
    options = ("--adapter", "mias", "--protocol", "linear-probe")
    ended = command(main, "evaluate", final, make_films(), *options)
    assert ended.code == 3
    assert ended.err == (
        "error: --protocol linear-probe: no label has two classes among the training studies, so "
        "there is nothing to fit. Ingest a dataset with labels and a training split\n"
    )


def test_retrieval_has_no_tasks_to_group(
    command: Callable[..., Any], dataset: Path, final: Path
) -> None:
    options = ("--protocol", "retrieval")
    ended = command(main, "evaluate", final, dataset, *options)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^retrieval: (\d+) studies, \1 different reports$", ended.out, re.MULTILINE)
    assert "report to image, first 10" in ended.out
    pointing = command(main, "evaluate", final, dataset, "--protocol", "pointing")
    assert (pointing.code, pointing.err) == (0, "")
    assert "images with boxes" in pointing.out
    ended = command(main, "evaluate", final, dataset, *options, "--by", "age")
    assert (ended.code, ended.err.startswith("error: --protocol retrieval: ")) == (2, True)


def test_models_of_different_classes_are_not_compared(
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    final: Path,
    tmp_path: Path,
) -> None:
    other = make_experiment("evaluation.density={F: [a fatty breast], D: [a dense breast]}")
    save_final(tmp_path / "other", build_model(other, base_models), other)
    options = ("--adapter", "mias", "--against", tmp_path / "other")
    ended = command(main, "evaluate", final, make_films(), *options)
    assert ended.code == 2
    assert ended.err == (
        "error: --against: answers with the classes D, F, the model with D, F, G. Compare models "
        "whose experiments have the same classes\n"
    )
