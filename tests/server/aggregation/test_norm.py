"""The norm of an update: a known value, accuracy over many chunks, and what is not finite."""

import numpy as np
import pytest

from server.aggregation.norm import CHUNK, update_norm


def test_a_known_norm() -> None:
    # 3² + 4² + 12² = 13²
    update = {"w": np.float32([[3, 0], [0, 4]]), "s": np.array(12, np.float32)}
    assert update_norm(update) == 13
    assert update_norm({}) == 0
    assert update_norm({"none": np.zeros((0, 3), np.float32)}) == 0


def test_accuracy_over_several_chunks() -> None:
    values = np.random.default_rng(0).normal(1e-3, 1e-5, 3 * CHUNK + 7).astype(np.float32)
    exact = np.linalg.norm(values.astype(np.float64))
    found = update_norm({"a": values[:5], "b": values[5:].reshape(2, -1)})
    assert found == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
@pytest.mark.parametrize("place", [0, CHUNK, 2 * CHUNK + 4])
def test_one_bad_value_anywhere_shows(value: float, place: int) -> None:
    values = np.zeros(2 * CHUNK + 5, np.float32)
    values[place] = value
    assert not np.isfinite(update_norm({"good": np.ones(3, np.float32), "bad": values}))


def test_opposite_infinities_do_not_cancel() -> None:
    assert not np.isfinite(update_norm({"a": np.float32([np.inf, -np.inf])}))
