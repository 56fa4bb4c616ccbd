"""Numbers as they are: float32, or bfloat16, which keeps its range and the first 8 bits of precision."""

import numpy as np

from mama.exchange.block import Parts
from mama.exchange.codecs.base import DamagedError, take

CHUNK = 2**16  # values that stay in the processor's cache


class Float32:
    """4 bytes a value, exact. Decoded values are a read-only view of the block."""

    name = "fp32"
    lossy = False

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """See `Codec`."""
        return {"values": values}

    def decode(self, parts: Parts, size: int) -> np.ndarray:
        """See `Codec`."""
        (values,) = take(parts, values=(np.float32, size))
        return finite(values)


class BFloat16:
    """2 bytes a value: the upper half of a float32, rounded to nearest, ties to even."""

    name = "bf16"
    lossy = True

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """See `Codec`; a value within half a step of float32's largest is cut instead of becoming infinite."""
        bits, halves = values.view(np.uint32), np.empty(values.size, np.uint16)
        for start in range(0, values.size, CHUNK):
            chunk = bits[start : start + CHUNK]
            rounded = (chunk >> 16) & np.uint32(1)
            rounded += chunk
            rounded += np.uint32(0x7FFF)
            halves[start : start + CHUNK] = rounded >> 16
        overflown = (halves & 0x7FFF) == 0x7F80
        halves[overflown] -= 1
        return {"halves": halves}

    def decode(self, parts: Parts, size: int) -> np.ndarray:
        """See `Codec`."""
        (halves,) = take(parts, halves=(np.uint16, size))
        bits = halves.astype(np.uint32)
        bits <<= 16
        return finite(bits.view(np.float32))


def finite(values: np.ndarray) -> np.ndarray:
    """The float32 values (n,) themselves.

    Raises:
        DamagedError: one is NaN or infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # One reading, and finite only if all values are; a sum that is too large needs the closer look.
        squares = np.dot(values, values)
    if not np.isfinite(squares) and not np.isfinite(values).all():
        raise DamagedError("tensor is not finite")
    return values
