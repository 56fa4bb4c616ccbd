"""`mama evaluate`: metrics of a model on unseen films; labels are used for scoring only."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mama.cli import main
from mama.evaluation.evaluate import answers, ingested
from mama.evaluation.figures import FIGURES, OF_A_CLASS
from mama.evaluation.predictions import Predictions


@pytest.fixture
def figures(command: Callable[..., Any], final: Path, tmp_path: Path) -> Callable[[Path], dict]:
    """Return the figures that the command writes for a raw folder."""

    def run(films: Path) -> dict[str, Any]:
        out = tmp_path / "figures.json"
        ended = command(main, "evaluate", final, films, "--adapter", "mias", "--json", out)
        assert (ended.code, ended.err) == (0, "")
        return json.loads(out.read_text())

    return run


def predictions(final: Path, films: Path, cache: Path) -> dict[str, Predictions]:
    return answers(final, ingested(films, "mias", [final], cache))


def relabel(films: Path, order: list[int]) -> None:
    """Give each patient the labels of another."""
    rows = [row.split(maxsplit=1) for row in (films / "labels").read_text().splitlines()]
    by_patient = [rows[i : i + 2] for i in range(0, len(rows), 2)]
    (films / "labels").write_text(
        "".join(
            f"{name} {labels}\n"
            for patient, other in zip(by_patient, order, strict=True)
            for (name, _), (_, labels) in zip(patient, by_patient[other], strict=True)
        )
    )


def test_a_raw_folder_gives_figures(
    figures: Callable[[Path], dict], make_films: Callable[..., Path]
) -> None:
    found = figures(make_films(patients=9))
    assert list(found) == ["scored", "zero_shot"]
    assert found["scored"] == {"split": "test", "studies": 9}
    for label, units in (("density", 9), ("suspicious", 18)):
        card = found["zero_shot"][label]
        assert list(card["figures"]) == list(FIGURES)
        assert all(0 <= one["value"] <= 1 for one in card["figures"].values())
        assert card["n"] == units


def test_it_leaves_nothing_behind(
    figures: Callable[[Path], dict], make_films: Callable[..., Path], final: Path
) -> None:
    films = make_films(patients=4)
    before = sorted([*films.rglob("*"), *final.rglob("*")])
    figures(films)
    assert sorted([*films.rglob("*"), *final.rglob("*")]) == before


def test_films_without_labels_give_null_and_a_reason(
    figures: Callable[[Path], dict], make_films: Callable[..., Path]
) -> None:
    films = make_films(patients=4)
    (films / "labels").unlink()
    for label in ("density", "suspicious"):
        assert figures(films)["zero_shot"][label] == {
            "n": 0,
            "classes": dict.fromkeys("DFG" if label == "density" else ("no", "yes"), 0),
            "figures": dict.fromkeys(FIGURES),
            "by_class": {name: {} for name in OF_A_CLASS},
            "reason": "no labels",
        }


def test_labels_of_one_class_give_null_and_a_reason(
    figures: Callable[[Path], dict], make_films: Callable[..., Path]
) -> None:
    films = make_films(patients=1)
    found = figures(films)["zero_shot"]["density"]
    assert found["figures"] == dict.fromkeys(FIGURES)
    assert found["reason"] == "all labels are of one class"


def test_labels_do_not_touch_the_predictions(
    figures: Callable[[Path], dict], make_films: Callable[..., Path], final: Path, tmp_path: Path
) -> None:
    films = make_films(patients=9)
    honest = figures(films)
    before = predictions(final, films, tmp_path / "one")
    relabel(films, [1, 2, 3, 4, 5, 6, 7, 8, 0])
    after = predictions(final, films, tmp_path / "two")
    for label in ("density", "suspicious"):
        np.testing.assert_array_equal(after[label].probabilities, before[label].probabilities)
        truths = [[unit.truth for unit in found[label].units] for found in (before, after)]
        assert truths[0] != truths[1]
    assert figures(films) != honest


def test_the_order_and_age_of_files_do_not_matter(
    figures: Callable[[Path], dict], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    films = make_films(patients=4)
    other = tmp_path / "elsewhere"
    (other / "png").mkdir(parents=True)
    shutil.copy(films / "labels", other)
    for age, film in enumerate(sorted((films / "png").iterdir(), reverse=True)):
        shutil.copy(film, other / "png")
        os.utime(other / "png" / film.name, (age, age * 1e6))
    rows = (other / "labels").read_text().splitlines()
    (other / "labels").write_text("\n".join(reversed(rows)) + "\n")
    assert figures(other) == figures(films)


def test_an_ingested_dataset_and_a_runs_folder(
    command: Callable[..., Any],
    figures: Callable[[Path], dict],
    make_films: Callable[..., Path],
    final: Path,
    tmp_path: Path,
) -> None:
    films = make_films(patients=9)
    ingested(films, "mias", [final], tmp_path / "dataset")
    found = tmp_path / "found.json"
    ended = command(main, "evaluate", final.parent, tmp_path / "dataset", "--json", found)
    assert ended.code == 0, ended.err
    assert json.loads(found.read_text()) == figures(films)


def test_the_outcome_is_a_table_of_80_columns(
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    final: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = command(main, "evaluate", final, make_films(patients=4), "--adapter", "mias")
    lines = ended.out.splitlines()
    assert lines[0] == "4 test studies"
    assert max(map(len, lines)) < 80
    assert "zero-shot density: 1 D, 2 F, 1 G" in lines
    assert [cell.strip() for cell in lines[6].split("│")] == ["", "AUC", "-", "-", ""]
    assert lines.count("- fewer than 3 of a class") == 2


def test_training_studies_are_named_as_such(
    command: Callable[..., Any], make_films: Callable[..., Path], final: Path, tmp_path: Path
) -> None:
    arguments = ("--adapter", "mias", "--long-side", 32, "--test-fraction", 0)
    ended = command(main, "ingest", make_films(), tmp_path / "dataset", *arguments)
    assert ended.code == 0, ended.err
    assert "6 studies to train on, 0 to test" in ended.out
    ended = command(main, "evaluate", final, tmp_path / "dataset")
    assert "6 TRAINING studies" in ended.out
    assert "say nothing about new patients" in ended.out


def test_a_failed_ingest_leaves_nothing(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("empty", "nowhere"):
        ended = command(main, "ingest", tmp_path / source, tmp_path / "out", "--adapter", "mias")
        assert ended.code == 2
        assert not (tmp_path / "out").exists()


def test_ingest_leaves_other_things_and_other_sizes_alone(
    command: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    arguments = ("ingest", make_films(), out, "--adapter", "mias")
    ended = command(main, *arguments)
    assert (ended.code, "contains other files (thesis.tex)" in ended.err) == (2, True)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]
    (out / "thesis.tex").unlink()
    assert command(main, *arguments, "--long-side", 32).code == 0
    (out / "thesis.tex").touch()  # once it is a dataset, a note in it does no harm
    assert command(main, *arguments, "--long-side", 32).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ended = command(main, *arguments, "--long-side", 48)
    assert ended.code == 2
    assert ended.err == (
        f"error: {out}: the folder holds a dataset at 32 pixels, not 48. "
        "Choose another folder, use --long-side 32, or remove the dataset\n"
    )
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("nowhere", "films", "--adapter", "mias"),
            4,
            "nowhere: the folder holds no model. Specify",
        ),
        (("films", "films", "--adapter", "mias"), 4, "films: the folder holds no model. Specify"),
        (
            ("final", "films"),
            3,
            "films: the folder holds no ingested dataset. Ingest it first, or specify the",
        ),
        (("final", "nowhere"), 3, "nowhere: no such folder. Check the path"),
        (
            ("final", "films", "--device", "gpu"),
            2,
            "--device gpu: is not a device. Choose auto, cpu",
        ),
        (("final", "films", "--json", "/"), 2, "--json /: is a folder. Give the path of a file"),
        (("final", "nowhere", "--adapter", "mias"), 3, "nowhere: no such folder. Check the path"),
        (("final", "empty", "--adapter", "mias"), 3, "empty: no studies. Check the path"),
        (("final", "films", "--adapter", "pacs"), 2, "unknown adapter 'pacs'. Choose cbis"),
        (("final", "films", "--adapter", "dicom_folder"), 3, "films: reports.csv is missing"),
    ],
)
def test_a_mistake_is_one_line(
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    final: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    make_films(patients=4)
    (tmp_path / "empty").mkdir()
    (tmp_path / "final").symlink_to(final)
    places = [tmp_path / name for name in arguments[:2]]
    ended = command(main, "evaluate", *places, *arguments[2:])
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("error: ")
    assert message in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("evaluate", ["Folder of a finished run", "Ingested dataset, or raw folder"]),
        ("ingest", ["Folder of images and reports", "Folder for manifest and image cache"]),
        ("train", ["Experiment file (YAML)"]),
    ],
)
def test_every_argument_is_described(
    command: Callable[..., Any], name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer's column of argument help is empty with click 8.5 and later."""
    monkeypatch.setenv("COLUMNS", "80")
    ended = command(main, name, "--help")
    assert all(argument in ended.out for argument in arguments)
    assert max(map(len, ended.out.splitlines())) <= 80
