"""Boxes of lesions as patches of the model's canvas."""

import numpy as np

from mama.config import ImageTowerConfig
from mama.data.augment import placement
from mama.data.studies import Box, Image
from mama.errors import DataError


def lesion_patches(image: Image, canvas: ImageTowerConfig, grid: tuple[int, int]) -> np.ndarray:
    """Return the patches that lie in a box of the image, bool (rows, columns).

    A patch lies in a box if its centre does. The patch that holds a box's centre always does, so
    that a box smaller than a patch has one.

    Args:
        image: with its boxes in pixels of the cached picture.
        canvas: size and layout of the model's canvas.
        grid: rows and columns of patches on the canvas.

    Raises:
        DataError: a box is empty or lies partly outside the picture.
    """
    rows, columns = np.arange(grid[0])[:, None] + 0.5, np.arange(grid[1]) + 0.5
    found = np.zeros(grid, bool)
    for box in image.boxes:
        x0, y0, x1, y1 = on_grid(box, image, canvas, grid)
        found |= (y0 <= rows) & (rows < y1) & (x0 <= columns) & (columns < x1)
        middle = int((y0 + y1) / 2), int((x0 + x1) / 2)
        found[min(middle[0], grid[0] - 1), min(middle[1], grid[1] - 1)] = True
    return found


def on_grid(
    box: Box, image: Image, canvas: ImageTowerConfig, grid: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return x0, y0, x1, y1 of a box in patches from the canvas' upper left corner.

    Arguments and errors are those of `lesion_patches`.
    """
    if not (0 <= box.x0 < box.x1 <= image.width and 0 <= box.y0 < box.y1 <= image.height):
        raise DataError(
            "a box of a lesion lies outside the picture",
            where=f"image {image.id}",
            fix="Correct the source's box and ingest the dataset again",
        )
    top, height, width = placement((image.height, image.width), canvas.size, canvas.layout)
    across = width / image.width * grid[1] / canvas.size[1]
    down = height / image.height * grid[0] / canvas.size[0]
    above = top * grid[0] / canvas.size[0]
    return box.x0 * across, above + box.y0 * down, box.x1 * across, above + box.y1 * down
