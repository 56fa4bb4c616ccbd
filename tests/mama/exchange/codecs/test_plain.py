"""float32 and bfloat16."""

import numpy as np
import pytest
import torch

from mama.exchange.codecs.base import DamagedError
from mama.exchange.codecs.plain import CHUNK, BFloat16, Float32

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 1.00390625, 1.01171875, 1e-45, 1.2e-38, 3.3e38, 65504.0], np.float32
)


def test_float32_is_the_values_themselves() -> None:
    parts = Float32().encode(SPECIAL)
    assert Float32().decode(parts, SPECIAL.size).tobytes() == SPECIAL.tobytes()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK + 1])
def test_bfloat16_rounds_as_torch_does(size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    values[: SPECIAL.size] = SPECIAL[:size]
    found = BFloat16().decode(BFloat16().encode(values), size)
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_float32_stays_finite(sign: int) -> None:
    value = np.array([sign * np.finfo(np.float32).max])
    (found,) = BFloat16().decode(BFloat16().encode(value.astype(np.float32)), 1)
    assert found == sign * 3.3895313892515355e38  # the largest bfloat16


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x7F81])
def test_infinity_and_nan_are_refused(bits: int) -> None:
    with pytest.raises(DamagedError, match="not finite"):
        BFloat16().decode({"halves": np.array([0, bits], np.uint16)}, 2)
    value = np.array([0, bits << 16], np.uint32).view(np.float32)
    with pytest.raises(DamagedError, match="not finite"):
        Float32().decode({"values": value}, 2)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"values": np.zeros(3, np.float32)},
        {"values": np.zeros(2, np.float32), "more": np.zeros(0, np.float32)},
        {"values": np.zeros(2, np.uint16)},
        {"halves": np.zeros(2, np.uint16)},
    ],
)
def test_other_parts_are_refused(parts: dict[str, np.ndarray]) -> None:
    with pytest.raises(DamagedError):
        Float32().decode(parts, 2)
