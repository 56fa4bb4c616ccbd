"""The mean of updates and the step on it, against numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mama.config import ServerOptimiserConfig
from mama.exchange.tensors import Arrays
from server.aggregate import ServerOptimiser, WeightedMean


def arrays(*values: float) -> Arrays:
    return {"w": np.array(values, np.float32), "v": -np.array(values, np.float32)}


def mean_of(*folded: tuple[Arrays, float]) -> dict[str, np.ndarray]:
    mean = WeightedMean()
    for update, weight in folded:
        mean.fold(update, weight)
    return {name: tensor.numpy() for name, tensor in mean.result().items()}


def test_the_mean_is_weighted() -> None:
    # (1·2 + 5·6) / 8 = 4 and (2·2 - 2·6) / 8 = -1
    result = mean_of((arrays(1, 2), 2), (arrays(5, -2), 6))
    assert result["w"].tolist() == [4, -1]
    assert result["v"].tolist() == [-4, 1]
    assert result["w"].dtype == np.float32


def test_one_update_is_its_own_mean() -> None:
    assert mean_of((arrays(0.5, -3), 7))["w"].tolist() == [0.5, -3]


def test_updates_are_neither_kept_nor_changed() -> None:
    mean, first, second = WeightedMean(), arrays(1, 2), arrays(3, 4)
    for update in (first, second):
        mean.fold(update, 1)
        assert update["w"].tolist() in ([1, 2], [3, 4])
        update["w"][:] = 1000
    assert mean.result()["w"].tolist() == [2, 3]


def test_memory_does_not_grow_with_the_number_of_updates() -> None:
    mean = WeightedMean()
    mean.fold(arrays(1, 2), 1)
    place = mean._sums["w"].data_ptr()
    for _ in range(10):
        mean.fold(arrays(1, 2), 1)
    assert mean._sums["w"].data_ptr() == place
    assert set(mean._sums) == {"w", "v"}


def stepped(optimiser: ServerOptimiser, *values: float) -> list[float]:
    return optimiser.step({k: _tensor(v) for k, v in arrays(*values).items()})["w"].tolist()


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def test_lr_1_adds_the_mean_exactly() -> None:
    random = np.random.default_rng(0)
    before = {"w": random.normal(size=1000).astype(np.float32)}
    update = {"w": random.normal(0, 1e-3, 1000).astype(np.float32)}
    optimiser = ServerOptimiser(before, ServerOptimiserConfig())
    after = optimiser.step({"w": _tensor(update["w"])})
    np.testing.assert_array_equal(after["w"], before["w"] + update["w"])


def test_a_step_changes_no_array_from_outside() -> None:
    before = arrays(1, 2)
    optimiser = ServerOptimiser(before, ServerOptimiserConfig())
    first = optimiser.step({k: _tensor(v) for k, v in arrays(1, 1).items()})
    stepped(optimiser, 1, 1)
    assert before["w"].tolist() == [1, 2]
    assert first["w"].tolist() == [2, 3]


def test_momentum_over_two_steps() -> None:
    optimiser = ServerOptimiser(arrays(10, 10), ServerOptimiserConfig(lr=0.5, momentum=0.5))
    # velocity 4, 2 → 10 + 0.5·4, 10 + 0.5·2
    assert stepped(optimiser, 4, 2) == [12, 11]
    # velocity 0.5·4 + 2 = 4, 0.5·2 - 1 = 0
    assert stepped(optimiser, 2, -1) == [14, 11]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_kept_optimiser_continues_the_same(tmp_path: Path, momentum: float) -> None:
    config = ServerOptimiserConfig(lr=0.5, momentum=momentum)
    whole = ServerOptimiser(arrays(1, 2), config)
    middle = whole.step({k: _tensor(v) for k, v in arrays(0.25, 4).items()})
    whole.save(tmp_path / "optimiser.safetensors")

    # As read from a checkpoint, where tensors come in another order.
    resumed = ServerOptimiser(dict(reversed(middle.items())), config)
    resumed.load(tmp_path / "optimiser.safetensors")

    assert stepped(resumed, 3, 0.125) == stepped(whole, 3, 0.125)
    assert stepped(resumed, 1, 1) == stepped(whole, 1, 1)
