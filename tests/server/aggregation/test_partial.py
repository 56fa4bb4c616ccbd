"""FedNova's weights and factor, by hand and against the formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.aggregation.partial import PartialWork

Sites = list[tuple[float, float, float]]


def combined(sites: Sites) -> float:
    """Of (update, weight, share) by site."""
    partial = PartialWork()
    weights = [partial.weight(weight, share) for _, weight, share in sites]
    mean = sum(v * u for v, (u, _, _) in zip(weights, sites, strict=True)) / sum(weights)
    return partial.factor() * mean


def test_by_hand() -> None:
    # Directions 4 and 3 / 0.25 = 12 with p = 1/4 and 3/4; mean share 1/4·1 + 3/4·1/4 = 7/16
    assert combined([(4, 1, 1.0), (3, 3, 0.25)]) == pytest.approx(7 / 16 * (1 + 9))


def test_a_slow_site_counts_as_much_for_the_direction_as_a_fast_one() -> None:
    """Two sites that pull apart equally a step cancel out, whatever the share of one."""
    assert combined([(8, 1, 1.0), (-2, 1, 0.25)]) == pytest.approx(0)


def test_whole_work_is_left_alone_to_the_bit() -> None:
    partial = PartialWork()
    for weight in (0.1, 17.3, 1e9):
        assert partial.weight(weight, 1.0) == weight
    assert partial.factor() == 1


site = st.tuples(st.floats(-10, 10), st.floats(1e-3, 1e3))


@given(st.lists(site, min_size=1, max_size=9), st.floats(1e-3, 1))
def test_equal_shares_give_the_plain_mean(sites: list[tuple[float, float]], share: float) -> None:
    mean = sum(u * w for u, w in sites) / sum(w for _, w in sites)
    assert combined([(u, w, share) for u, w in sites]) == pytest.approx(mean, rel=1e-9, abs=1e-9)


@given(
    st.lists(
        st.tuples(st.floats(-10, 10), st.floats(1e-3, 1e3), st.floats(1e-3, 1)),
        min_size=1,
        max_size=9,
    )
)
def test_against_the_formula(sites: Sites) -> None:
    total = sum(w for _, w, _ in sites)
    share = sum(w / total * t for _, w, t in sites)
    expected = share * sum(w / total * u / t for u, w, t in sites)
    assert combined(sites) == pytest.approx(expected, rel=1e-9, abs=1e-6)
