"""The weighted mean, against numbers worked out by hand and against numpy."""

import numpy as np
import pytest

from mama.errors import QuorumError
from mama.exchange.arrays import Arrays
from server.aggregation.mean import WeightedMean

SHAPES: dict[str, tuple[int, ...]] = {"w": (2,), "v": (2,)}


def arrays(*values: float) -> Arrays:
    return {"w": np.array(values, np.float32), "v": -np.array(values, np.float32)}


def mean_of(*folded: tuple[Arrays, float]) -> dict[str, np.ndarray]:
    mean = WeightedMean({name: array.shape for name, array in folded[0][0].items()})
    for update, weight in folded:
        mean.fold("site", update, weight)
    return {name: tensor.numpy() for name, tensor in mean.result().items()}


def test_the_mean_is_weighted() -> None:
    # (1·2 + 5·6) / 8 = 4 and (2·2 - 2·6) / 8 = -1
    result = mean_of((arrays(1, 2), 2), (arrays(5, -2), 6))
    assert result["w"].tolist() == [4, -1]
    assert result["v"].tolist() == [-4, 1]
    assert result["w"].dtype == np.float32


def test_one_update_is_its_own_mean() -> None:
    assert mean_of((arrays(0.5, -3), 7))["w"].tolist() == [0.5, -3]


def test_forty_sites_against_float64() -> None:
    rng = np.random.default_rng(1)
    updates = rng.normal(0, 1e-3, (40, 1000)).astype(np.float32)
    weights = rng.integers(1, 5000, 40)
    found = mean_of(*(({"w": u}, float(w)) for u, w in zip(updates, weights, strict=True)))["w"]
    expected = weights @ updates.astype(np.float64) / weights.sum()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(updates).max())


def test_updates_are_neither_kept_nor_changed() -> None:
    mean, first, second = WeightedMean(SHAPES), arrays(1, 2), arrays(3, 4)
    for update, values in ((first, [1, 2]), (second, [3, 4])):
        mean.fold("site", update, 1)
        assert update["w"].tolist() == values
        update["w"][:] = 1000
    assert mean.result()["w"].tolist() == [2, 3]


def test_scalars_read_only_and_turned_arrays() -> None:
    update = {
        "scalar": np.array(3, np.float32),
        "fixed": np.frombuffer(np.float32([1, 2]).tobytes(), np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    assert not update["fixed"].flags.writeable
    found = mean_of((update, 2.0), (update, 6.0))
    for name, array in update.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape


def test_memory_does_not_grow_with_the_number_of_updates() -> None:
    mean = WeightedMean(SHAPES)
    place = mean._means["w"].data_ptr()
    for _ in range(10):
        mean.fold("site", arrays(1, 2), 1)
    assert mean.result()["w"].data_ptr() == place


def test_no_update_has_no_mean() -> None:
    with pytest.raises(QuorumError, match="no update to average"):
        WeightedMean(SHAPES).result()
