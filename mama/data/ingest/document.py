"""Recognition of scanned documents: black print on white paper fills the picture as tissue would.

White print on black is told by its area: `mama.data.tissue.breast_mask` finds no region in it.
"""

import numpy as np

FILLED = 0.9  # share of the crop that is lit: a breast leaves the corners of its crop dark
EVEN = 0.65  # share of the lit pixels that have about the same grey
ABOUT = 12  # levels of 255
BRIGHT = 127  # level; paper is brighter than print


def is_document(pixels: np.ndarray) -> bool:
    """Return True if a picture is a bright rectangle of one grey, such as paper or a banner.

    Args:
        pixels: uint8 (height, width), a crop of which 0 is background.
    """
    counts = np.bincount(pixels.ravel(), minlength=256)
    lit = counts[1:]
    if lit.sum() < FILLED * pixels.size:
        return False
    near = np.convolve(lit, np.ones(2 * ABOUT + 1, int), mode="same")
    return bool(near.max() > EVEN * lit.sum() and near.argmax() + 1 > BRIGHT)
