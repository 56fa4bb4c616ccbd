"""Quantised updates: exact to a step, unbiased, and without overflow at the limit of sites."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.exchange.secagg.quantise import largest_bits, mean, quantise, step

SHAPES = {"a": (3, 4), "b": (5,)}


def update(seed: int, size: float = 0.1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {n: (size * random.standard_normal(s)).astype(np.float32) for n, s in SHAPES.items()}


@settings(max_examples=60, deadline=None)
@given(sites=st.integers(1, 40), bits=st.integers(8, 24), seed=st.integers(0, 1000))
def test_the_mean_is_right_to_a_step(sites: int, bits: int, seed: int) -> None:
    limit = 0.5
    updates = [update(seed + n) for n in range(sites)]
    total = np.zeros(17, np.uint32)
    for one in updates:
        total += quantise(one, 1.0, limit, bits)
    result = mean(total, SHAPES, sites, sites, limit, bits)
    for name in SHAPES:
        expected = np.mean([np.clip(one[name], -limit, limit) for one in updates], axis=0)
        assert np.abs(result[name] - expected).max() <= step(limit, bits) * (1 + 1e-6) + 1e-7


def test_rounding_has_no_bias() -> None:
    value = {"a": np.full(400_000, 0.0301, np.float32)}
    error = quantise(value, 1.0, 1.0, 16) * step(1.0, 16) - 1.0 - 0.0301
    # The mean of n errors, each below a step, is off by a few steps over the root of n.
    assert abs(error.mean()) < 5 * step(1.0, 16) / np.sqrt(400_000)


def test_values_beyond_the_limit_are_cut() -> None:
    ends = {"a": np.array([-9, -1, 1, 9, np.inf, -np.inf], np.float32)}
    assert quantise(ends, 1.0, 1.0, 10).tolist() == [0, 0, 1023, 1023, 1023, 0]


@pytest.mark.parametrize("sites", [2, 3, 4, 5, 1024, 1025, 4096])
def test_the_largest_sum_fits(sites: int) -> None:
    bits = largest_bits(sites)
    assert sites * (2**bits - 1) < 2**32
    assert sites * (2 ** (bits + 1) - 1) >= 2**32


def test_scales_weigh() -> None:
    updates, scales = [update(1), update(2)], [1.0, 0.25]
    total = np.zeros(17, np.uint32)
    for one, scale in zip(updates, scales, strict=True):
        total += quantise(one, scale, 1.0, 24)
    result = mean(total, SHAPES, 2, sum(scales), 1.0, 24)
    expected = (updates[0]["b"] + 0.25 * updates[1]["b"]) / 1.25
    assert result["b"] == pytest.approx(expected, abs=1e-6)
