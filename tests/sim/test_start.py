"""Runs that start from an earlier run's model, and the approval of their sites."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from client.errors import RefusedError
from client.policy.approval import Approvals
from client.policy.patients import sentences
from client.site.config import load_site
from client.site.dataset import dataset_of
from client.training.tasks import lineage
from mama.config import Experiment
from mama.config.earlier import earlier_model
from mama.config.load import load
from mama.errors import ModelError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.coding import encode
from mama.exchange.fingerprint import arrays_fingerprint
from mama.exchange.update import VARIATE, initial_arrays
from mama.final.saved import load_final, save_final
from mama.model import build_model
from mama.training.standalone import train
from server.run.folder import RunFolder
from server.run.global_model import initial_model
from sim.cli import main
from tests.conftest import ROOT, SMALL

CONFIG = ROOT / "configs" / "quickstart.yaml"


def settings(*more: str) -> list[str]:
    return [word for line in [*SMALL, *more] for word in ("--set", line)]


def test_a_simulation_and_a_training_start_from_a_run(
    tmp_path: Path, command: Callable, site_files: Callable
) -> None:
    rounds = "federation.rounds=1"
    first = tmp_path / "first"
    ended = command(main, "run", CONFIG, "--quiet", "--out", first, *settings(rounds))
    assert ended.code == 0, ended.err
    begin = settings(rounds, f"init_from={first}", "optimiser.lr=0.0000001", "seed=3")
    second = tmp_path / "second"
    ended = command(main, "run", CONFIG, "--quiet", "--out", second, *begin)
    assert ended.code == 0, ended.err
    one, _ = load_final(first / "final")
    two, experiment = load_final(second / "final")
    named = RunFolder(second).experiment().init_from
    assert named == experiment.init_from
    problems = json.loads((second / "metrics.json").read_text(encoding="utf-8"))["problems"]
    assert problems == []
    # A small learning rate leaves them all but where they were; a fresh model is elsewhere.
    fresh = build_model(experiment).state_dict()
    near, far = 0.0, 0.0
    for name, tensor in two.state_dict().items():
        near = max(near, float((tensor - one.state_dict()[name]).abs().max()))
        far = max(far, float((tensor - fresh[name]).abs().max()))
    assert near < 1e-5 < far
    # The same command goes on, and one of another start is another run.
    assert command(main, "run", CONFIG, "--quiet", "--out", second, *begin).code == 0
    refused = command(main, "run", CONFIG, "--quiet", "--out", second, *settings(rounds, "seed=3"))
    assert refused.code == 2
    given, models = earlier_model(CONFIG, [f"init_from={first}"])
    assert given == [f'init_from="{named}"']
    dataset = dataset_of(load_site(site_files()[0]))
    train(experiment, dataset, tmp_path / "third", models=models, device=torch.device("cpu"))
    third, _ = load_final(tmp_path / "third" / "final")
    moved = (third.image_projection.weight - one.image_projection.weight).abs().max()
    assert moved.item() < 1e-5


@pytest.fixture
def begun(small_config: Callable, tmp_path: Path) -> tuple[Experiment, Arrays]:
    """An experiment that starts from weights of somebody's making, and these."""
    plain: Experiment = small_config().experiment()
    arrays = {
        n: a + np.float32(0.5)
        for n, a in initial_arrays(build_model(plain), plain.strategy).items()
    }
    return plain.model_copy(update={"init_from": arrays_fingerprint(arrays)}), arrays


def test_a_site_takes_what_a_person_approved_and_nothing_else(
    site_files: Callable, begun: tuple[Experiment, Arrays], make_first_task: Callable
) -> None:
    experiment, arrays = begun
    site = load_site(site_files()[0])
    policy = site.policy.model_copy(update={"max_model_step": 4.0})
    site = site.model_copy(update={"policy": policy})
    task = make_first_task(experiment)

    def accept(given: Arrays) -> None:
        lineage(site, experiment, "run-1").accept(task, given, digest_of(encode(given)))

    with pytest.raises(RefusedError, match="nobody here has approved"):
        accept(arrays)
    Approvals(site).approve(experiment.hash())
    planted = arrays | {"image_projection.bias": arrays["image_projection.bias"] + 1}
    with pytest.raises(RefusedError, match="not the model that the experiment starts from"):
        accept(planted)
    variate = {VARIATE + name: np.ones_like(array) for name, array in arrays.items()}
    with pytest.raises(RefusedError, match="control variates are not 0"):
        accept(arrays | variate)
    fresh = initial_arrays(build_model(experiment), experiment.strategy)
    with pytest.raises(RefusedError, match="not the model that the experiment starts from"):
        accept(fresh)
    accept(arrays)
    # What comes next is held against it, not against the fresh model that this site can build.
    later = make_first_task(experiment, round=2)
    lineage(site, experiment, "run-1").accept(later, arrays, "0" * 64)
    with pytest.raises(RefusedError, match="moved by"):
        lineage(site, experiment, "run-1").accept(
            later.model_copy(update={"round": 3}), fresh, "1" * 64
        )
    assert f"starts from: the earlier model with fingerprint {experiment.init_from}" in sentences(
        site, experiment
    )


@pytest.fixture
def make_first_task() -> Callable:
    from mama.exchange.protocol import Task

    def make(experiment: Experiment, round: int = 1) -> Task:
        return Task(
            run="run-1",
            round=round,
            task="train-1-alder",
            kind="train",
            experiment=experiment.canonical_json(),
            experiment_hash=experiment.hash(),
        )

    return make


def test_the_coordinator_starts_from_it_too(tmp_path: Path, small_config: Callable) -> None:
    experiment = small_config().experiment()
    model = build_model(experiment)
    model.image_projection.bias.data.add_(1)
    save_final(tmp_path / "first" / "final", model, experiment)
    values = experiment.model_dump(mode="json") | {"init_from": str(tmp_path / "first")}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    arrays, _ = initial_model(path, {})
    given, _ = earlier_model(path)
    assert arrays_fingerprint(arrays) == load(Experiment, path, given).init_from


def test_another_architecture_ends_a_simulation_with_one_line(
    tmp_path: Path, command: Callable, small_config: Callable
) -> None:
    experiment = small_config().experiment()
    save_final(tmp_path / "final", build_model(experiment), experiment)
    wider = "heads={embedding: 32, view_hidden: 48, local_hidden: 32}"
    ended = command(
        main,
        "run",
        CONFIG,
        "--quiet",
        "--out",
        tmp_path / "o",
        *settings(f"init_from={tmp_path / 'final'}", wider),
    )
    assert ended.code == ModelError.exit_code
    assert ended.err.count("\n") == 1
    assert "its heads.view_hidden is 32, the experiment's 48" in ended.err
