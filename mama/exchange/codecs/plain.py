"""Float codecs: float32, or bfloat16 with the same range and 8 bits of precision."""

import numpy as np

from mama.exchange.codecs.base import DamagedError, take
from mama.exchange.codecs.block import Parts

CHUNK = 2**16  # values that stay in the processor's cache


class Float32:
    """Exact codec with 4 bytes per value; decoded values are a read-only view of the block."""

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
    """Codec with 2 bytes per value: the upper half of a float32, rounded to nearest even."""

    name = "bf16"
    lossy = True

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """See `Codec`; values that would round to infinity are clipped to the largest bfloat16."""
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
    """Return the float32 values (n,) after checking that all are finite.

    Raises:
        DamagedError: one is NaN or infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # One pass: finite only if all values are. A sum that overflows needs the closer look.
        squares = np.dot(values, values)
    if not np.isfinite(squares) and not np.isfinite(values).all():
        raise DamagedError("tensor is not finite")
    return values
