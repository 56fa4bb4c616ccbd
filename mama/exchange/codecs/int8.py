"""8-bit codec: each row of values is a scale times integers from -127 to 127.

A row is ROW consecutive values whatever the tensor's shape; with the 8-value rows of a low-rank
adapter, scales would add half of the size of the values. One byte per value and 4 per row are 0.254
of float32.
"""

import numpy as np

from mama.exchange.codecs.base import DamagedError, take
from mama.exchange.codecs.block import Parts

ROW = 256
LEVELS = 127
CHUNK = 512 * ROW  # values that stay in the processor's cache
# Below it, the inverse of a scale is not a float32; above it, 127 times the scale is not.
SMALLEST = np.finfo(np.float32).tiny
LARGEST = np.nextafter(np.finfo(np.float32).max / np.float32(LEVELS), np.float32(0))


class Int8:
    """Symmetric quantisation, rounded to nearest, with one float32 scale per row."""

    name = "int8"
    lossy = True

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """See `Codec`."""
        levels, scales = quantise(values)
        return {"levels": levels, "scales": scales}

    def decode(self, parts: Parts, size: int) -> np.ndarray:
        """See `Codec`."""
        return dequantise(*take(parts, levels=(np.int8, size), scales=(np.float32, rows_of(size))))


def rows_of(size: int) -> int:
    """Return the number of rows of `size` values; the last row may be short."""
    return -(-size // ROW)


def quantise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 levels (n,) and float32 scales (rows,) of finite float32 values (n,)."""
    levels, scales = np.empty(values.size, np.int8), np.empty(rows_of(values.size), np.float32)
    whole = values.size // ROW * ROW
    for start in range(0, whole, CHUNK):
        part = slice(start, min(start + CHUNK, whole))
        _quantise(
            values[part].reshape(-1, ROW),
            levels[part].reshape(-1, ROW),
            scales[part.start // ROW : part.stop // ROW],
        )
    if whole < values.size:
        _quantise(values[None, whole:], levels[None, whole:], scales[-1:])
    return levels, scales


def dequantise(levels: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the float32 values (n,) of quantised levels and scales.

    Raises:
        DamagedError: a level or scale is out of the range of `quantise`, whose values are finite.
    """
    if not ((scales >= 0) & (scales <= LARGEST)).all() or levels.min(initial=0) < -LEVELS:
        raise DamagedError("tensor has values that its codec does not make")
    values = np.empty(levels.size, np.float32)
    whole = levels.size // ROW * ROW
    np.multiply(
        levels[:whole].reshape(-1, ROW),
        scales[: whole // ROW, None],
        out=values[:whole].reshape(-1, ROW),
    )
    if whole < levels.size:
        np.multiply(levels[whole:], scales[-1], out=values[whole:])
    return values


def _quantise(rows: np.ndarray, levels: np.ndarray, scales: np.ndarray) -> None:
    """Fill `levels` (R, n) and `scales` (R,) from `rows` (R, n)."""
    np.divide(np.abs(rows).max(axis=1), np.float32(LEVELS), out=scales)
    scales[scales < SMALLEST] = 0
    np.minimum(scales, LARGEST, out=scales)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    scaled = rows * inverse[:, None]
    np.rint(scaled, out=scaled)
    np.copyto(levels, scaled, casting="unsafe")
