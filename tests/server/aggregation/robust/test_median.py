"""The coordinate-wise median."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from mama.config.strategy import SimpleAggregatorConfig
from mama.errors import QuorumError

MEDIAN = SimpleAggregatorConfig(kind="median")


def test_by_hand(combine_rows: Callable[..., list[float]]) -> None:
    assert combine_rows(MEDIAN, [1, 9, -2], [5, 1, 0], [2, 3, 700]) == [2, 3, 0]
    # An even number: the mean of the two in the middle.
    assert combine_rows(MEDIAN, [1, 0], [2, 0], [4, 8], [99, 8]) == [3, 4]


@pytest.mark.parametrize("sites", [3, 4, 7, 12])
def test_against_numpy(combine, random_updates, sites: int) -> None:
    updates = random_updates(sites)
    for name, found in combine(MEDIAN, updates).items():
        stacked = np.stack([update[name] for update in updates])
        np.testing.assert_allclose(found, np.median(stacked, 0), rtol=1e-6)
        assert found.dtype == np.float32


def test_the_order_of_arrival_does_not_matter(combine, random_updates) -> None:
    updates = random_updates(4)
    first = combine(MEDIAN, updates)
    for order in list(permutations(range(4)))[1::5]:
        for name, found in combine(MEDIAN, updates, order=order).items():
            assert found.tobytes() == first[name].tobytes()


def test_a_minority_cannot_leave_the_range_of_the_others(combine, random_updates) -> None:
    updates = random_updates(5)
    honest = np.stack([update["w"] for update in updates[:3]])
    for update in updates[3:]:
        update["w"][:] = 1e6
    found = combine(MEDIAN, updates)["w"]
    assert (found >= honest.min(0)).all()
    assert (found <= honest.max(0)).all()


def test_two_updates_are_too_few(combine, random_updates) -> None:
    with pytest.raises(QuorumError, match="2 updates, but Median needs at least 3"):
        combine(MEDIAN, random_updates(2))
