"""The step on an update, against numbers worked out by hand, and its state on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from mama.config.strategy import ServerOptimiserConfig
from mama.exchange.arrays import Arrays
from mama.exchange.update import Update
from server.aggregation.optimiser import ServerOptimiser

KINDS = [
    {"kind": "sgd", "lr": 0.5},
    {"kind": "sgd", "lr": 0.5, "momentum": 0.9},
    {"kind": "adam", "lr": 0.1},
    {"kind": "adagrad"},
    {"kind": "yogi", "lr": 0.1},
]


def config(**values: object) -> ServerOptimiserConfig:
    return TypeAdapter(ServerOptimiserConfig).validate_python(values)


def arrays(*values: float) -> Arrays:
    return {"w": np.array(values, np.float32), "v": -np.array(values, np.float32)}


def update(*values: float) -> Update[torch.Tensor]:
    return Update.of({name: torch.from_numpy(array) for name, array in arrays(*values).items()})


def stepped(optimiser: ServerOptimiser, *values: float) -> list[float]:
    return optimiser.step(update(*values))["w"].tolist()


def test_fedavg_adds_the_mean_exactly() -> None:
    random = np.random.default_rng(0)
    before = {"w": random.normal(size=1000).astype(np.float32)}
    change = random.normal(0, 1e-3, 1000).astype(np.float32)
    expected = before["w"] + change
    after = ServerOptimiser(before, config()).step(Update({"w": torch.from_numpy(change)}))
    np.testing.assert_array_equal(after["w"], expected)


def test_fedavgm_over_two_steps() -> None:
    optimiser = ServerOptimiser(arrays(10, 10), config(lr=0.5, momentum=0.5))
    # velocity 4, 2 → 10 + 0.5·4, 10 + 0.5·2
    assert stepped(optimiser, 4, 2) == [12, 11]
    # velocity 0.5·4 + 2 = 4, 0.5·2 - 1 = 0
    assert stepped(optimiser, 2, -1) == [14, 11]


def test_fedadam_over_two_steps() -> None:
    optimiser = ServerOptimiser(
        arrays(1), config(kind="adam", lr=0.1, betas=[0.5, 0.75], eps=0.001)
    )
    # Corrected from zero, the moments of a first step are its update and its square.
    first = 1 + 0.1 * 2 / (2 + 0.001)
    assert stepped(optimiser, 2) == pytest.approx([first], rel=1e-6)
    # m = (0.25·2 + 0.5·4) / 0.75, v = (0.75·0.25·4 + 0.25·16) / (1 - 0.75²)
    m, v = 2.5 / 0.75, 4.75 / 0.4375
    second = first + 0.1 * m / (v**0.5 + 0.001)
    assert stepped(optimiser, 4) == pytest.approx([second], rel=1e-6)


def test_fedadagrad_over_two_steps() -> None:
    optimiser = ServerOptimiser(arrays(1), config(kind="adagrad", lr=0.1, eps=0.5))
    # v = 0.5² + 2², then + 4²
    first = 1 + 0.1 * 2 / (4.25**0.5 + 0.5)
    assert stepped(optimiser, 2) == pytest.approx([first], rel=1e-6)
    second = first + 0.1 * 4 / (20.25**0.5 + 0.5)
    assert stepped(optimiser, 4) == pytest.approx([second], rel=1e-6)


def test_fedyogi_goes_along_the_update() -> None:
    optimiser = ServerOptimiser(arrays(1), config(kind="yogi", lr=0.5, betas=[0.5, 0.75], eps=1.0))
    # m = 2; v = 1 - 0.25·16·sign(1 - 16) = 5
    assert stepped(optimiser, 4) == pytest.approx([1 + 0.5 * 2 / (5**0.5 + 1)], rel=1e-6)


def test_the_papers_values_are_the_defaults() -> None:
    for kind in ("adam", "yogi"):
        read = config(kind=kind)
        assert (read.betas, read.eps) == ((0.9, 0.99), 1e-3)
    assert config(kind="adagrad").eps == 1e-3
    assert (config().kind, config().lr, config().momentum) == ("sgd", 1.0, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_changed_in_place(kind: dict) -> None:
    model = arrays(1, 2)
    places = {name: array.ctypes.data for name, array in model.items()}
    optimiser = ServerOptimiser(model, config(**kind))
    for _ in range(2):
        after = optimiser.step(update(1, 1))
        assert {name: array.ctypes.data for name, array in after.items()} == places


def test_arrays_that_may_not_be_written_are_copied() -> None:
    fixed = np.frombuffer(np.float32([1, 2]).tobytes(), np.float32)
    after = ServerOptimiser({"w": fixed}, config()).step(Update({"w": torch.ones(2)}))
    assert after["w"].tolist() == [2, 3]
    assert fixed.tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_without_an_update_stays_and_so_does_its_momentum(kind: dict) -> None:
    optimiser = ServerOptimiser(arrays(1, 2), config(**kind))
    before = optimiser.step(update(4, 4))["v"].copy()
    after = optimiser.step(Update({"w": torch.ones(2)}))
    np.testing.assert_array_equal(after["v"], before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_optimiser_continues_the_same(tmp_path: Path, kind: dict) -> None:
    whole = ServerOptimiser(arrays(1, 2), config(**kind))
    middle = {name: array.copy() for name, array in whole.step(update(0.25, 4)).items()}
    whole.save(tmp_path / "optimiser.safetensors")

    # As read from a checkpoint, where tensors come in another order.
    resumed = ServerOptimiser(dict(reversed(middle.items())), config(**kind))
    resumed.load(tmp_path / "optimiser.safetensors")

    assert stepped(resumed, 3, 0.125) == stepped(whole, 3, 0.125)
    assert stepped(resumed, 1, 1) == stepped(whole, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_variates_are_added_and_leave_the_model_alone(kind: dict) -> None:
    model = {"w": np.float32([1, 2]), "variate/w": np.float32([3, 4])}
    optimiser = ServerOptimiser(model, config(**kind))
    alone = ServerOptimiser({"w": np.float32([1, 2])}, config(**kind))
    for values in ([8.0, -8.0], [1.0, 1.0]):
        after = optimiser.step(Update({"w": torch.tensor(values)}, {"w": torch.tensor(values)}))
        np.testing.assert_array_equal(
            after["w"], alone.step(Update({"w": torch.tensor(values)}))["w"]
        )
    assert after["variate/w"].tolist() == [12, -3]
