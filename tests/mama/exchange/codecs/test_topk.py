"""top-k: exactly the largest, places that rise by construction, bridges over wide distances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.exchange.codecs.base import DamagedError
from mama.exchange.codecs.topk import WIDEST, TopK, largest


def test_known_values() -> None:
    values = np.array([0, 5, -1, 0, -10, 2], np.float32)
    parts = TopK(0.5).encode(values)
    assert parts["gaps"].tolist() == [1, 2, 0]
    assert parts["levels"].tolist() == [64, -127, 25]
    found = TopK().decode(parts, 6)
    np.testing.assert_allclose(found, [0, 5, 0, 0, -10, 2], atol=10 / 254)
    assert found[[0, 2, 3]].tolist() == [0, 0, 0]


@given(
    st.lists(st.sampled_from([-2, -1, 0, 1, 2, 3, 1e-30]), min_size=1, max_size=30),
    st.floats(0.01, 1),
)
@settings(deadline=None)
def test_exactly_the_largest_are_kept_also_among_equals(numbers: list[float], keep: float) -> None:
    values = np.array(numbers, np.float32)
    count = math.ceil(keep * values.size)
    places = largest(values, count)
    assert places.tolist() == sorted(set(places.tolist()))
    assert len(places) == count
    left = np.delete(np.abs(values), places)
    assert left.max(initial=0) <= np.abs(values[places]).min()
    found = TopK().decode(TopK(keep).encode(values), values.size)
    assert set(np.flatnonzero(found)) <= set(places)
    np.testing.assert_allclose(found[places], values[places], atol=3 / 253)


@pytest.mark.parametrize("distance", [WIDEST - 1, WIDEST, WIDEST + 1, 2 * WIDEST, 3 * WIDEST + 7])
def test_wide_distances_are_bridged(distance: int) -> None:
    values = np.zeros(distance + 10, np.float32)
    values[0], values[distance], values[distance + 3] = 1, -2, 3
    parts = TopK(3 / values.size).encode(values)
    np.testing.assert_allclose(TopK().decode(parts, values.size), values, atol=3 / 254)
    assert parts["gaps"].size == 3 + (distance - 1) // WIDEST


@pytest.mark.parametrize("size", [0, 1, 99, 101, 10_000])
def test_at_least_one_value_is_kept_of_any(size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    found = TopK(0.01).decode(TopK(0.01).encode(values), size)
    assert np.count_nonzero(found) == math.ceil(0.01 * size)


def parts_of(gaps: list[int], levels: list[int], scale: float = 1.0) -> dict[str, np.ndarray]:
    return {
        "gaps": np.array(gaps, np.uint16),
        "levels": np.array(levels, np.int8),
        "scales": np.full(1 if levels else 0, scale, np.float32),
    }


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (parts_of([0] * 5, [1] * 5), "more values than its size"),
        (parts_of([3, 0], [1, 1]), "beyond its end"),
        (parts_of([65535], [1]), "beyond its end"),
        (parts_of([0, 0], [1]), "another type or length"),
        (parts_of([0], [1], np.nan), "does not make"),
        (parts_of([0], [-128]), "does not make"),
        (parts_of([0], [1]) | {"gaps": np.zeros(1, np.int8)}, "another type or length"),
        ({"gaps": np.zeros(1, np.uint16)}, "other parts"),
        ({}, "other parts"),
    ],
)
def test_parts_that_no_encoder_makes(parts: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        TopK().decode(parts, 4)


def test_three_bytes_a_value() -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    size = sum(part.nbytes for part in TopK(0.01).encode(values).values())
    assert size == 1000 * 3 + 4 * 4
