"""The geometric median."""

from collections.abc import Callable

import numpy as np
import pytest

from mama.config_aggregation import SimpleAggregatorConfig
from mama.errors import QuorumError

MEDIAN = SimpleAggregatorConfig(kind="geometric_median")


def test_by_hand(combine_rows: Callable[..., list[float]]) -> None:
    # On a line it is the ordinary median.
    assert combine_rows(MEDIAN, [0], [10], [1]) == pytest.approx([1], abs=1e-4)
    # Of a convex quadrilateral it is where the diagonals cross, here x + y = 4 and y = x.
    corners = ([0, 0], [4, 0], [5, 5], [0, 4])
    assert combine_rows(MEDIAN, *corners) == pytest.approx([2, 2], abs=1e-4)
    # Fermat's point of an isosceles triangle sees each side under 120 degrees: y = 3 / tan 60.
    triangle = ([-3, 0], [3, 0], [0, 9])
    assert combine_rows(MEDIAN, *triangle) == pytest.approx([0, 3 / np.sqrt(3)], abs=1e-4)


def test_more_than_half_of_the_weight_decides(combine_rows: Callable[..., list[float]]) -> None:
    rows = ([0, 0], [4, 1], [-2, 7])
    found = combine_rows(MEDIAN, *rows, weights=[1.0, 6.0, 4.0])
    assert found == pytest.approx([4, 1], abs=1e-4)


def weiszfeld(rows: np.ndarray, weights: np.ndarray, steps: int) -> np.ndarray:
    """The paper's algorithm on the vectors themselves."""
    z = weights @ rows / weights.sum()
    for _ in range(steps):
        share = weights / np.maximum(np.linalg.norm(z - rows, axis=1), 1e-6)
        z = share @ rows / share.sum()
    return z


@pytest.mark.parametrize("sites", [3, 6, 11])
def test_against_numpy(combine, random_updates, sites: int) -> None:
    updates = random_updates(sites, seed=sites)
    weights = np.random.default_rng(sites).uniform(0.5, 2, sites)
    found = combine(MEDIAN, updates, weights=weights.tolist())
    flat = [np.concatenate([a.ravel() for a in u.values()]).astype(np.float64) for u in updates]
    expected = weiszfeld(np.stack(flat), weights, 3000)
    together = np.concatenate([array.ravel() for array in found.values()])
    np.testing.assert_allclose(together, expected, atol=1e-6)


def test_monstrous_updates_hardly_move_it(combine) -> None:
    rows = np.random.default_rng(0).normal(0, 1e-3, (5, 300)).astype(np.float32)
    honest = np.linalg.norm(rows, axis=1).max()
    rows[1], rows[3] = 1e6, -1e6
    rows[3, ::2] = 1e6
    found = combine(MEDIAN, [{"w": row} for row in rows])["w"]
    assert np.linalg.norm(found) < 3 * honest
    expected = weiszfeld(rows.astype(np.float64), np.ones(5), 3000)
    np.testing.assert_allclose(found, expected, atol=1e-5 * honest)


def test_equal_updates(combine_rows: Callable[..., list[float]]) -> None:
    assert combine_rows(MEDIAN, [1, 2], [1, 2], [1, 2]) == pytest.approx([1, 2])


def test_two_updates_are_too_few(combine, random_updates) -> None:
    with pytest.raises(QuorumError, match="2 updates, but GeometricMedian needs at least 3"):
        combine(MEDIAN, random_updates(2))
