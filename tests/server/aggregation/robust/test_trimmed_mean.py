"""The coordinate-wise trimmed mean."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import trim_mean

from mama.config.strategy import TrimmedMeanConfig
from mama.errors import QuorumError


def config(trim: float) -> TrimmedMeanConfig:
    return TrimmedMeanConfig(kind="trimmed_mean", trim=trim)


def test_by_hand(combine_rows: Callable[..., list[float]]) -> None:
    # floor(0.25 · 5) = 1 at each end: (1 + 2 + 6) / 3 and (-1 + 0 + 1) / 3
    rows = [[-90, 1], [1, -1], [2, 0], [6, -50], [7, 50]]
    assert combine_rows(config(0.25), *rows) == [3, 0]
    # floor(0.49 · 5) = 2: the median
    assert combine_rows(config(0.49), *rows) == [2, 0]


@pytest.mark.parametrize(("sites", "trim"), [(5, 0.2), (8, 0.3), (12, 0.1), (9, 0.49)])
def test_against_scipy(combine, random_updates, sites: int, trim: float) -> None:
    updates = random_updates(sites)
    for name, found in combine(config(trim), updates).items():
        stacked = np.stack([update[name] for update in updates]).astype(np.float64)
        np.testing.assert_allclose(found, trim_mean(stacked, trim, axis=0), rtol=1e-6)


def test_the_share_is_rounded_down_but_not_its_rounding_error() -> None:
    assert 0.29 * 100 < 29
    assert config(0.29).trimmed(100) == 29
    assert config(0.29).trimmed(99) == 28
    assert all(config(0.49).trimmed(sites) * 2 < sites for sites in range(3, 500))


@pytest.mark.parametrize(
    ("trim", "minimum"), [(0.2, 5), (0.1, 10), (0.01, 100), (0.3, 4), (0.45, 3)]
)
def test_nothing_to_trim_is_no_trimmed_mean(
    combine, random_updates, trim: float, minimum: int
) -> None:
    assert config(trim).minimum_sites == minimum
    combine(config(trim), random_updates(minimum))
    with pytest.raises(QuorumError, match=f"TrimmedMean needs at least {minimum}"):
        combine(config(trim), random_updates(minimum - 1))
