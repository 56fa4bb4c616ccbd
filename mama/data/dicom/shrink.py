"""Size of pictures: averages over areas, from levels that a table translates to display values.

A mammogram has 12 million pixels and more, so it is translated a few rows at a time, in the
processor's cache, and never held whole as floating-point numbers.
"""

from itertools import pairwise

import numpy as np
from PIL import Image


def fit(shape: tuple[int, ...], long_side: int) -> tuple[int, int]:
    """Return the height and width of a picture whose longest side becomes `long_side`."""
    scale = long_side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def resize(
    pixels: np.ndarray, size: tuple[int, int], table: np.ndarray | None = None
) -> np.ndarray:
    """Return a picture at another size; shrinking averages areas, so that small specks survive.

    Args:
        pixels: (height, width), display values or, with a table, levels of 8 or 16 bits.
        size: height and width of the result.
        table: float32, the display value of each level.

    Returns:
        float32 (height, width); an area is made of whole pixels, by their centres.
    """
    if size[0] >= pixels.shape[0]:
        shown = pixels.astype(np.float32) if table is None else table[pixels]
        return _by_pillow(shown, size, Image.Resampling.BILINEAR)
    edges = np.floor(np.arange(size[0] + 1) * (len(pixels) / size[0]) + 0.5).astype(int)
    rows = np.empty((size[0], pixels.shape[1]), np.float32)
    for row, (top, bottom) in enumerate(pairwise(edges)):
        part = pixels[top:bottom]
        shown = part if table is None else np.take(table, part, mode="wrap")  # wrap: no check
        np.add.reduce(shown, axis=0, out=rows[row])
        rows[row] /= bottom - top
    return _by_pillow(rows, size, Image.Resampling.BOX)


def _by_pillow(pixels: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], how))
