"""Training without a federation: exact resumption, alone and with torchrun, and its folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mama.cli import main
from mama.config import Experiment
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.errors import ConfigError, ModelError, TrainingError
from mama.evaluation.evaluate import evaluate_whole
from mama.system.sealed import read_sealed
from mama.system.tensors import load_tensors, save_tensors
from mama.training.standalone import Callbacks, train

CPU = torch.device("cpu")


class StoppedError(Exception):
    """A run that ends in its middle."""


@pytest.fixture
def run(dataset: Dataset, base_models: dict[str, Path], tmp_path: Path) -> Callable[..., Any]:
    """Train the tiny experiment in a folder of a name; `stop` ends it after so many steps."""

    def go(experiment: Experiment, name: str, stop: int | None = None) -> dict[str, Any]:
        def on_progress(step: int, figures: dict[str, float]) -> None:
            if step == stop:
                raise StoppedError

        return train(
            experiment,
            dataset,
            tmp_path / name,
            every=3,
            models=base_models,
            device=CPU,
            callbacks=Callbacks(progress=on_progress),
        )

    return go


def final(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "final" / "model.safetensors")[0]


@pytest.mark.parametrize("more", [[], ["compute.chunk=2", "optimiser.accumulate=2"]])
def test_a_stopped_run_ends_like_one_that_was_not(
    run: Callable[..., Any],
    make_experiment: Callable[..., Experiment],
    tmp_path: Path,
    more: list[str],
) -> None:
    experiment = make_experiment("loss.local.start=0.5", *more)
    run(experiment, "straight")
    for stop in (3, 6):
        with pytest.raises(StoppedError):
            run(experiment, "stopped", stop)
    run(experiment, "stopped")
    straight, stopped = final(tmp_path / "straight"), final(tmp_path / "stopped")
    assert straight.keys() == stopped.keys()
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)
    lines = (tmp_path / "stopped" / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 6, 9, 10]


def test_the_folder_holds_figures_curves_and_a_model(
    run: Callable[..., Any],
    make_experiment: Callable[..., Experiment],
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    metrics = run(make_experiment(), "run")
    out = tmp_path / "run"
    assert read_sealed(out / "metrics.json") == metrics
    assert metrics == {"steps": 10, "evaluation": evaluate_whole(out / "final", dataset)}
    line = json.loads((out / "steps.jsonl").read_text().splitlines()[-1])
    assert {"image_text", "loss", "recall_at_1", "effective_rank", "remarks"} <= line.keys()
    assert len(list((out / "checkpoints").iterdir())) == 2
    assert list((out / "tensorboard").glob("events.*"))


def test_another_experiment_keeps_out(
    run: Callable[..., Any], make_experiment: Callable[..., Experiment]
) -> None:
    run(make_experiment(), "run")
    with pytest.raises(ConfigError, match="another experiment: seed is 3 there and 9 here"):
        run(make_experiment("seed=9"), "run")


def test_other_base_weights_keep_out(
    run: Callable[..., Any],
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    tmp_path: Path,
) -> None:
    experiment, folder = make_experiment(), next(iter(base_models.values()))
    with pytest.raises(StoppedError):
        run(experiment, "run", stop=3)
    weights = load_file(folder / "model.safetensors")
    whole = (folder / "model.safetensors").read_bytes()
    weights[sorted(weights)[0]] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    try:
        with pytest.raises(ModelError, match="the text tower's base weights are not those"):
            run(experiment, "run")
    finally:
        (folder / "model.safetensors").write_bytes(whole)
    run(experiment, "run")


@pytest.mark.parametrize(
    "settings", [["optimiser.batch_size=1"], ["optimiser.batch_size=1", "optimiser.accumulate=2"]]
)
def test_a_run_that_cannot_learn_ends_as_an_error(
    run: Callable[..., Any], make_experiment: Callable[..., Experiment], settings: list[str]
) -> None:
    with pytest.raises(TrainingError, match="none of 3 steps trained anything: 3 of 3 steps had"):
        run(make_experiment(*settings), "run")


def test_a_checkpoint_of_another_shape_is_refused(
    run: Callable[..., Any], make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        run(make_experiment(), "run", 3)
    path = tmp_path / "run" / "checkpoints" / "step-000003" / "model.safetensors"
    tensors, done = load_tensors(path)
    tensors["text_projection.weight"] = tensors["text_projection.weight"][:, :8]
    save_tensors(path, tensors, done)
    with pytest.raises(ModelError, match=r"another model \(text_projection.weight\)") as error:
        run(make_experiment(), "run")
    assert "step-000003" in str(error.value)


def test_the_command_line(
    command: Callable[..., Any],
    experiment_file: Path,
    base_models: dict[str, Path],
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = yaml.safe_load(experiment_file.read_text()) | {"simulation": {"source": "anything"}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(values))
    place = f"tiny-bert={base_models['tiny-bert']}"
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["train", tmp_path / "e.yaml", "--data", dataset.folder, "--out", tmp_path / "run"]
    ended = command(main, *arguments, "--model", place, "--every", 5)
    assert ended.code == 0, ended.err
    headings, *steps = ended.err.splitlines()
    assert headings.split() == [
        "step",
        "loss",
        "img-text",
        "2nd-text",
        "img-img",
        "local",
        "R@1",
        "time",
        "left",
    ]
    assert [line.split()[0] for line in steps] == ["5/10", "10/10"]
    assert all(len(line) == len(headings) < 80 for line in steps)
    assert "10 steps, 6 test studies" in ended.out
    assert ended.out.endswith(f"model:   {tmp_path / 'run' / 'final'}\n")
    assert (tmp_path / "run" / "final" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model", "tiny-bert"], "--model tiny-bert: is not of the form NAME=PATH"),
        (["--set", "image.layuot=square"], "unknown key 'image.layuot'. Did you mean 'layout'?"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (
            ["--model", "tiny-bart=."],
            "tiny-bart: is not a base model of the experiment. Choose vit_",
        ),
        (["--model", "tiny-bert=/nowhere"], "--model NAME=PATH"),
        (["--device", "gpu"], "--device gpu: is not a device. Choose auto, cpu, cuda or cuda:1"),
        (["--device", "cuda:99"], "--device cuda:99: no such GPU"),
        (["--set", "text.tower=/etc"], "--set text.tower=/etc: key 'text.tower': must be a model"),
        (["--set", "image.size=[28, 32]"], "image.size for vit_tiny"),
        (["--set", "evaluation.density={F: [a], G: [b]}"], "the labels are BI-RADS (A, B, C, D), "),
        (["--set", "image.size=[64, 64]"], "needs 64. Ingest the source with --long-side 64"),
    ],
)
def test_mistakes_are_one_line(
    command: Callable[..., Any],
    experiment_file: Path,
    dataset: Dataset,
    tmp_path: Path,
    arguments: list[str],
    line: str,
) -> None:
    out = ["--data", dataset.folder, "--out", tmp_path / "run"]
    ended = command(main, "train", experiment_file, *out, *arguments)
    assert ended.code != 0
    assert ended.err.count("\n") == 1
    assert line in ended.err
    assert not (tmp_path / "run").exists()  # the mended command finds a free folder


def test_a_run_that_has_ended_is_left_as_it_is(
    run: Callable[..., Any], make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    first = run(make_experiment(), "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert run(make_experiment(), "run") == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_figures_of_training_studies_are_not_given(
    make_experiment: Callable[..., Experiment],
    dataset: Dataset,
    base_models: dict[str, Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(dataset.folder / "images")
    studies = tuple(dataset.studies("train"))
    write_manifest(
        tmp_path / "data", Manifest(adapter="test", key_check="", long_side=32, studies=studies)
    )
    metrics = train(
        make_experiment("federation.rounds=1"),
        Dataset(tmp_path / "data"),
        tmp_path / "run",
        models=base_models,
        device=CPU,
    )
    reason = "the dataset has no test studies"
    assert metrics == {"steps": 2, "evaluation": {"zero_shot": {}, "reason": reason}}


def test_a_folder_of_other_things_is_left_alone(
    run: Callable[..., Any], make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"contains other files \(thesis.tex\)"):
        run(make_experiment(), "notes")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is a file"):
        run(make_experiment(), "file")
    run(make_experiment("federation.rounds=1"), "federated")
    (tmp_path / "federated" / "rounds.jsonl").touch()
    with pytest.raises(ConfigError, match="holds a federation's run"):
        run(make_experiment("federation.rounds=1"), "federated")


@pytest.mark.slow
def test_two_processes_train_like_one(
    run: Callable[..., Any],
    make_experiment: Callable[..., Experiment],
    experiment_file: Path,
    base_models: dict[str, Path],
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    """torchrun with two gloo processes; LoRA's dropout off, because each process draws its own."""
    alone = make_experiment("text.lora.dropout=0")
    run(alone, "alone")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "mama.cli", "train", str(experiment_file), "--set", "text.lora.dropout=0",
        "--data", str(dataset.folder), "--out", str(tmp_path / "two"), "--device", "cpu",
        "--model", f"tiny-bert={base_models['tiny-bert']}",
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = final(tmp_path / "alone"), final(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
