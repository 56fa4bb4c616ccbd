"""int8 by row: known values, the promised error, and scales that no encoder makes."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.exchange.codecs.base import DamagedError
from mama.exchange.codecs.int8 import CHUNK, ROW, Int8, dequantise, quantise


def test_known_values() -> None:
    values = np.zeros(ROW + 3, np.float32)
    values[:4] = [127, -64.4, 0.5, 1.5]  # ties go to the even level
    values[ROW:] = [0, -2.54, 1.27]
    levels, scales = quantise(values)
    assert levels[:4].tolist() == [127, -64, 0, 2]
    assert levels[ROW:].tolist() == [0, -127, 64]  # 63.5
    np.testing.assert_allclose(scales, [1, 0.02], rtol=1e-6)
    np.testing.assert_allclose(dequantise(levels, scales)[ROW:], [0, -2.54, 1.28], rtol=1e-6)


@pytest.mark.parametrize("size", [0, 1, ROW - 1, ROW, ROW + 1, CHUNK - 1, CHUNK, CHUNK + ROW + 1])
def test_no_value_is_off_by_more_than_half_a_level_of_its_row(size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    values *= np.exp(np.arange(size) / ROW % 20).astype(np.float32)  # rows of different size
    levels, scales = quantise(values)
    assert (levels.dtype, levels.size) == (np.int8, size)
    assert (scales.dtype, scales.size) == (np.float32, -(-size // ROW))
    half = np.repeat(scales, ROW)[:size] / 2
    assert (np.abs(dequantise(levels, scales) - values) <= half * (1 + 1e-4)).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=5))
@settings(deadline=None)
def test_extreme_values_give_no_warning_and_stay_finite(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        levels, scales = quantise(values)
        found = dequantise(levels, scales)
    assert np.isfinite(found).all()
    peak = np.abs(values).max(initial=0)
    assert (np.abs(found - values) <= peak / 250 + 2e-36).all()


@pytest.mark.parametrize("scale", [-1e-3, np.nan, np.inf, -np.inf, 3e38])
def test_scales_that_no_encoder_makes(scale: float) -> None:
    parts = {"levels": np.full(2, 127, np.int8), "scales": np.array([scale], np.float32)}
    with pytest.raises(DamagedError, match="values that its codec does not make"):
        Int8().decode(parts, 2)


def test_the_level_that_no_encoder_makes() -> None:
    parts = {"levels": np.array([0, -128], np.int8), "scales": np.ones(1, np.float32)}
    with pytest.raises(DamagedError, match="values that its codec does not make"):
        Int8().decode(parts, 2)


def test_the_largest_float32_stays_finite() -> None:
    largest = np.finfo(np.float32).max
    found = dequantise(*quantise(np.array([largest, -largest, 0], np.float32)))
    np.testing.assert_allclose(found, [largest, -largest, 0], rtol=1e-6)


def test_the_size_is_a_quarter() -> None:
    parts = Int8().encode(np.ones(100 * ROW, np.float32))
    assert sum(part.nbytes for part in parts.values()) == 100 * (ROW + 4)


@pytest.mark.parametrize("size", [0, ROW, 2 * ROW])
def test_parts_of_another_size_are_refused(size: int) -> None:
    parts = Int8().encode(np.ones(ROW + 1, np.float32))
    with pytest.raises(DamagedError, match="another type or length"):
        Int8().decode(parts, size)
