"""Krum and multi-Krum."""

from collections.abc import Callable

import numpy as np
import pytest

from mama.config_aggregation import KrumConfig
from mama.errors import QuorumError
from mama.exchange.arrays import Arrays

KRUM = KrumConfig(kind="krum", byzantine=1)
MULTI = KrumConfig(kind="multi_krum", byzantine=1)
ROWS = ([0.0], [1.0], [3.0], [7.0], [100.0])


def test_by_hand(combine_rows: Callable[..., list[float]]) -> None:
    # N 5, f 1: the 2 closest. Scores: 1 + 9, 1 + 4, 4 + 9, 16 + 36, 93² + 97².
    assert combine_rows(KRUM, *ROWS) == [1]
    # The best 5 - 1 - 2 = 2 are the second and the first.
    assert combine_rows(MULTI, *ROWS) == [0.5]


def test_of_equal_scores_the_first_sites_counts(combine_rows: Callable[..., list[float]]) -> None:
    rows = [[2.0], [2.0], [-2.0], [-2.0], [9.0]]
    assert combine_rows(KRUM, *rows) == [2]
    assert combine_rows(KRUM, *rows, order=[4, 2, 3, 1, 0]) == [2]


def plain_krum(updates: list[Arrays], byzantine: int, chosen: int) -> np.ndarray:
    """Loops over pairs, as the paper says it."""
    flat = np.stack([np.concatenate([a.ravel() for a in u.values()]) for u in updates])
    flat, sites = flat.astype(np.float64), len(updates)
    scores = []
    for i in range(sites):
        away = sorted(((flat[i] - flat[j]) ** 2).sum() for j in range(sites) if j != i)
        scores.append(sum(away[: sites - byzantine - 2]))
    return flat[np.argsort(scores)[:chosen]].mean(0)


@pytest.mark.parametrize(("sites", "byzantine"), [(5, 1), (9, 3), (12, 2), (7, 1)])
@pytest.mark.parametrize("kind", ["krum", "multi_krum"])
def test_against_numpy(combine, random_updates, kind, sites: int, byzantine: int) -> None:
    updates = random_updates(sites, seed=sites)
    found = combine(KrumConfig(kind=kind, byzantine=byzantine), updates)
    flat = np.concatenate([array.ravel() for array in found.values()])
    expected = plain_krum(updates, byzantine, 1 if kind == "krum" else sites - byzantine - 2)
    np.testing.assert_allclose(flat, expected, rtol=1e-6, atol=1e-7)


def test_krums_result_is_one_of_the_updates_to_the_bit(combine, random_updates) -> None:
    updates = random_updates(6)
    found = combine(KRUM, updates)
    assert any(all((found[n] == update[n]).all() for n in found) for update in updates)


@pytest.mark.parametrize("kind", ["krum", "multi_krum"])
def test_bad_sites_are_left_out(combine, kind) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(1, 0.1, (7, 50)).astype(np.float32)
    rows[1], rows[4] = -100 * rows[1], 1e6
    updates = [{"w": row} for row in rows]
    found = combine(KrumConfig(kind=kind, byzantine=2), updates)["w"]
    assert 0.5 < found.min() < found.max() < 1.5


def test_fewer_sites_than_the_paper_allows(combine, random_updates) -> None:
    with pytest.raises(QuorumError, match="4 updates, but Krum needs at least 5"):
        combine(KRUM, random_updates(4))
    with pytest.raises(QuorumError, match="8 updates, but Krum needs at least 9"):
        combine(KrumConfig(kind="multi_krum", byzantine=3), random_updates(8))
