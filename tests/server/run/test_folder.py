"""A run's folder: what is kept, what is refused, and what a crash may leave."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mama.config import Experiment
from mama.errors import ConfigError, ModelError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import encode
from mama.exchange.protocol import Description
from mama.system.files import write_bytes
from mama.system.sealed import write_sealed
from server.run.checkpoint import MODEL, Checkpoint
from server.run.folder import RunFolder
from tests.events import made, records

BASE = Description(fingerprint="0" * 64, trained_parameters=2, frozen_parameters=3)


def model(value: float) -> Arrays:
    return {"w": np.array([value, -value], np.float32)}


@pytest.fixture
def experiment(small_config: Callable) -> Experiment:
    return small_config().experiment()


@pytest.fixture
def folder(tmp_path: Path, experiment: Experiment) -> RunFolder:
    return RunFolder.create(tmp_path / "run", experiment, model(0.5), BASE)


def save(folder: RunFolder, number: int, **kept: int) -> Checkpoint:
    state = folder.latest().state.model_copy(update={"round": number})
    files = {MODEL: lambda path: write_bytes(path, encode(model(number)))}
    return folder.save(state, files, **kept)


def test_a_new_run_starts_from_its_initial_model(folder: RunFolder, experiment: Experiment) -> None:
    latest = folder.latest()
    assert latest.round == 0
    assert latest.base == BASE
    np.testing.assert_array_equal(latest.arrays["w"], model(0.5)["w"])
    assert folder.experiment() == experiment
    assert folder.experiment().hash() == experiment.hash()


def test_two_newest_checkpoints_are_kept(folder: RunFolder) -> None:
    for number in range(1, 12):
        save(folder, number)
    assert [path.name for path in folder.checkpoints()] == ["round-0010", "round-0011"]
    assert folder.latest().arrays["w"].tolist() == [11, -11]
    assert sorted(p.name for p in (folder.path / "checkpoints").iterdir()) == [
        "round-0010",
        "round-0011",
    ]


def test_starting_again_continues_the_run(folder: RunFolder, experiment: Experiment) -> None:
    run = folder.latest().run
    save(folder, 1)
    again = RunFolder.create(folder.path, experiment, model(99), BASE).latest()
    assert (again.run, again.round) == (run, 1)
    assert again.arrays["w"].tolist() == [1, -1]


def test_two_runs_have_two_names(tmp_path: Path, experiment: Experiment) -> None:
    first, second = (
        RunFolder.create(tmp_path / name, experiment, model(1), BASE).latest().run for name in "ab"
    )
    assert first != second


def test_another_experiment_is_refused(folder: RunFolder, small_config: Callable) -> None:
    other = small_config("optimiser.lr=0.5").experiment()
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"another experiment: optimiser\.lr is") as error:
        RunFolder.create(folder.path, other, model(1), BASE)
    assert str(folder.path) in str(error.value)
    assert before == {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def test_a_checkpoint_without_its_state_is_passed_over_and_named(folder: RunFolder) -> None:
    half = folder.path / "checkpoints" / "round-0007"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert folder.latest().round == 0
    assert folder.latest().damaged == (half,)
    # The round after the one that was taken up is never the one that makes room.
    write_sealed(folder.path / "best.json", {"round": 0, "auc": 0.9})
    (folder.path / "checkpoints" / "round-0006").mkdir()
    kept = save(folder, 1)
    assert [path.name for path in folder.checkpoints()] == ["round-0000", "round-0001"]
    assert folder.latest().folder == kept.folder


def test_a_damaged_checkpoint_is_named(folder: RunFolder) -> None:
    path = folder.latest().folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match="round-0000") as error:
        folder.latest()
    assert "\n" not in str(error.value)


def test_an_empty_folder_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no run\. Start one first"):
        RunFolder(tmp_path).latest()
    assert records(RunFolder(tmp_path)) == []
    assert RunFolder(tmp_path).checkpoints() == []


def test_events_come_back_in_order_with_their_time(folder: RunFolder) -> None:
    for number in range(3):
        folder.log(made({"event": "round", "round": number}))
    events = records(folder)
    assert [event["round"] for event in events] == [0, 1, 2]
    assert events[0]["time"] <= events[1]["time"] <= events[2]["time"]


def test_a_torn_line_costs_that_line_only(folder: RunFolder) -> None:
    path = folder.path / "rounds.jsonl"
    folder.log(made({"event": "start"}))
    folder.log(made({"event": "round", "round": 1}))
    path.write_bytes(path.read_bytes()[:-9])
    assert [event["event"] for event in records(folder)] == ["start"]

    folder.log(made({"event": "start"}))
    folder.log(made({"event": "finished"}))
    assert [event["event"] for event in records(folder)] == ["start", "start", "finished"]


def test_metrics_are_json_that_every_reader_takes(folder: RunFolder) -> None:
    folder.write_metrics({"auc": 0.5})
    plain = json.loads((folder.path / "metrics.json").read_text())
    assert folder.metrics() == {"auc": 0.5} == {"auc": plain["auc"]}
    with pytest.raises(ValueError):
        folder.write_metrics({"auc": float("nan")})
