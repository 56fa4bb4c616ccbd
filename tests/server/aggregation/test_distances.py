"""Squared distances between updates, from blocks."""

import numpy as np

from server.aggregation.distances import squared_distances


def test_by_hand() -> None:
    # (0, 0, 0), (3, 4, 0), (0, 0, 1): 25, 1, 9 + 16 + 1
    rows = np.float32([[0, 0, 0], [3, 4, 0], [0, 0, 1]])
    found = squared_distances([rows[:, :1], rows[:, 1:]])
    assert found.tolist() == [[0, 25, 1], [25, 0, 26], [1, 26, 0]]
    assert found.dtype == np.float64


def test_a_monstrous_update_does_not_blur_the_others() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1e-3, (5, 4000)).astype(np.float32)
    rows[2] = 1e6
    found = squared_distances(np.array_split(rows, 7, axis=1))
    wide = rows.astype(np.float64)
    expected = ((wide[:, None] - wide[None]) ** 2).sum(2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_equal_updates_are_at_no_distance() -> None:
    row = np.random.default_rng(0).normal(size=(1, 999)).astype(np.float32)
    assert (squared_distances([np.repeat(row, 3, axis=0)]) < 1e-12).all()
