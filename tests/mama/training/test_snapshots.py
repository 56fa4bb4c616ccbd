"""Snapshots contain the complete state of a training, including its gradient hooks."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.errors import ModelError
from mama.model import build_model
from mama.training.diagnostics import TrainingRecord
from mama.training.hooks import GradientHook, Named
from mama.training.snapshots import Snapshots
from mama.training.trainer import Trainer


class Drift(GradientHook):
    """Sums all gradients and steps along their sum, so that forgetting it changes the weights."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def __call__(self, parameters: Named) -> None:
        for name, parameter in parameters:
            if parameter.grad is not None:
                total = self.sums.setdefault(name, torch.zeros_like(parameter))
                total += parameter.grad
                parameter.grad.add_(total)

    def state(self) -> dict[str, Tensor]:
        return self.sums

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.sums = dict(state)


@pytest.fixture
def make(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Callable[[], Trainer]:
    """A trainer with two gradient hooks that have state."""

    def new() -> Trainer:
        experiment = make_experiment()
        model = build_model(experiment, base_models)
        pairs = StudyPairs(dataset, experiment, "site")
        return Trainer(model, pairs, experiment, torch.device("cpu"), [Drift(), Drift()])

    return new


def test_training_goes_on_to_the_bit(make: Callable[[], Trainer], tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "stops", kept=1)
    assert snapshots.note() is None
    straight = make()
    whole = straight.train(0, 4)
    first, record = make(), TrainingRecord()
    for step in first.steps(range(2), record):
        snapshots.save(step + 1, first, {"record": record.counted()})
    assert [path.name for path in snapshots.folder.iterdir()] == ["step-000002"]

    second = make()
    note = snapshots.note()
    assert isinstance(note, dict)
    again = TrainingRecord(**note["record"])
    assert again.counted() == record.counted()
    snapshots.resume(second)
    list(second.steps(range(2, 4), again))
    assert (again.taken, again.sums) == (4, whole.sums)
    for (name, value), (_, other) in zip(straight.parameters, second.parameters, strict=True):
        assert torch.equal(value, other), name
    snapshots.remove()
    assert snapshots.note() is None


def test_a_damaged_stop_changes_nothing(make: Callable[[], Trainer], tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "stops", kept=1)
    one = make()
    one.train(0, 1)
    for name in ("corrections", "optimiser", "model"):
        snapshots.save(1, one, 1)
        path = snapshots.folder / "step-000001" / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-5])
        fresh = make()
        before = [value.detach().clone() for _, value in fresh.parameters]
        with pytest.raises(ModelError):
            snapshots.resume(fresh)
        for old, (_, value) in zip(before, fresh.parameters, strict=True):
            assert torch.equal(old, value)
