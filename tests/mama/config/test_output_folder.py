"""Output folders: foreign content is left alone, and differing experiments are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mama.config import Experiment
from mama.config.output_folder import first_difference, refuse_another, refuse_foreign
from mama.errors import ConfigError
from mama.system.files import replacing

OURS = ("run.yaml", "images/index")


def test_new_empty_and_marked_folders_pass(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new", OURS)
    (tmp_path / "images").mkdir()
    refuse_foreign(tmp_path, OURS)  # nothing but an empty folder
    (tmp_path / "images" / "index").touch()
    (tmp_path / "thesis.tex").touch()
    refuse_foreign(tmp_path, OURS)


@pytest.mark.parametrize("name", ["run.yaml", "images/index", "key"])
def test_writes_that_were_killed_are_no_foreign_content(tmp_path: Path, name: str) -> None:
    """A process that is killed before its first mark leaves the mark's temporary file."""
    path = tmp_path / name
    writing = replacing(path)
    temporary = writing.__enter__()
    temporary.write_bytes(b"half")
    refuse_foreign(tmp_path, OURS, before=["key"])
    foreign = path.parent / ".thesis.tex.abcd1234"
    foreign.touch()
    with pytest.raises(ConfigError, match="contains other files"):
        refuse_foreign(tmp_path, OURS, before=["key"])
    writing.__exit__(None, None, None)


def test_other_things_are_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError) as error:
        refuse_foreign(tmp_path, OURS)
    assert str(error.value) == (
        f"{tmp_path}: contains other files (thesis.tex). Give a new or empty folder"
    )
    (tmp_path / "key").touch()
    (tmp_path / "notes").touch()
    with pytest.raises(ConfigError, match=r"\(notes and 1 more\)"):
        refuse_foreign(tmp_path, OURS, before=["key"])


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        refuse_foreign(tmp_path / "file", OURS)


@pytest.mark.parametrize(
    ("there", "here", "difference"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ("b", "2", "3")),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": None}}}, ("a.b.c", "1", "null")),
        ({"a": {"b": 1}}, {"a": None}, ("a", "{'b': 1}", "null")),
        ({"a": 1}, {"a": 1, "z": [1, 2]}, ("z", "null", "[1, 2]")),
        ({"a": 1, "z": None}, {"a": 1}, ("z", "null", "null")),
        ({"a": "x" * 99}, {"a": "y"}, ("a", "x" * 57 + "...", "y")),
    ],
)
def test_the_first_difference(there: dict, here: dict, difference: tuple[str, str, str]) -> None:
    assert first_difference(there, here) == difference


def test_a_run_of_an_earlier_version_is_named_as_one(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    path, experiment = tmp_path / "experiment.yaml", make_experiment()
    values = experiment.model_dump(mode="json")
    values["federation"]["quorum"] = values["participation"].pop("quorum")
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as error:
        refuse_another(path, experiment, "another run")
    assert str(error.value) == (
        f"{path}: is not of this version: unknown key 'federation.quorum'. Finish the run with "
        "the version that began it, or begin a new one in another --out (write it as "
        "participation.quorum there)"
    )


def test_another_experiment_is_refused(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    path, experiment = tmp_path / "experiment.yaml", make_experiment()
    refuse_another(path, experiment, "another run")
    path.write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    refuse_another(path, experiment, "another run")
    with pytest.raises(ConfigError) as error:
        refuse_another(path, make_experiment("optimiser.lr=0.5"), "another run")
    assert str(error.value) == (
        f"{tmp_path}: holds another run: optimiser.lr is 0.003 there and 0.5 here. "
        "Give another --out, or remove it"
    )
