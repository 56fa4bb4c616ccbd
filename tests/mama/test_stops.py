"""Stops hold all that a training has gathered, also what its corrections have."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mama.config import Experiment
from mama.corrections import Correction, Named
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.errors import ModelError
from mama.model import build_model
from mama.stops import Stops
from mama.trainer import Trainer, TrainingRecord


class Drift(Correction):
    """Adds up all gradients and pushes along their sum, so that forgetting it changes the weights."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def __call__(self, parameters: Named) -> None:
        for name, parameter in parameters:
            if parameter.grad is not None:
                total = self.sums.setdefault(name, torch.zeros_like(parameter))
                total += parameter.grad
                parameter.grad.add_(total)

    def gathered(self) -> dict[str, Tensor]:
        return self.sums

    def resume(self, gathered: Mapping[str, Tensor]) -> None:
        self.sums = dict(gathered)


@pytest.fixture
def make(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Callable[[], Trainer]:
    """A trainer with two corrections that gather."""

    def new() -> Trainer:
        experiment = make_experiment()
        model = build_model(experiment, base_models)
        pairs = StudyPairs(dataset, experiment, "site")
        return Trainer(model, pairs, experiment, torch.device("cpu"), [Drift(), Drift()])

    return new


def test_training_goes_on_to_the_bit(make: Callable[[], Trainer], tmp_path: Path) -> None:
    stops = Stops(tmp_path / "stops", kept=1)
    assert stops.note() is None
    straight = make()
    straight.train(0, 4)
    first, record = make(), TrainingRecord()
    for step in first.steps(range(2), record):
        stops.save(step + 1, first, {"record": record.counted()})
    assert [path.name for path in stops.folder.iterdir()] == ["step-000002"]

    second = make()
    note = stops.note()
    assert isinstance(note, dict)
    again = TrainingRecord(**note["record"])
    assert again.counted() == record.counted()
    stops.resume(second)
    list(second.steps(range(2, 4), again))
    assert again.taken == 4
    assert {len(values) for values in again.sums.values()} <= {4, 3}  # one term joins later
    for (name, value), (_, other) in zip(straight.parameters, second.parameters, strict=True):
        assert torch.equal(value, other), name
    stops.remove()
    assert stops.note() is None


def test_a_damaged_stop_changes_nothing(make: Callable[[], Trainer], tmp_path: Path) -> None:
    stops = Stops(tmp_path / "stops", kept=1)
    one = make()
    one.train(0, 1)
    for name in ("corrections", "optimiser", "model"):
        stops.save(1, one, 1)
        path = stops.folder / "step-000001" / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-5])
        fresh = make()
        before = [value.detach().clone() for _, value in fresh.parameters]
        with pytest.raises(ModelError):
            stops.resume(fresh)
        for old, (_, value) in zip(before, fresh.parameters, strict=True):
            assert torch.equal(old, value)
