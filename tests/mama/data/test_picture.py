"""Scanned documents: paper is no breast, and no breast is paper."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mama.data.picture import is_document
from mama.data.tissue import prepare
from tests.mama.data.conftest import breast


def page(paper: int, ink: int, *, banner: bool = False, noise: float = 0) -> np.ndarray:
    """float32 (800, 600) in [0, 1]: lines of print, with a filled banner above them."""
    picture = Image.new("I", (600, 800), paper)
    draw = ImageDraw.Draw(picture)
    if banner:
        draw.rectangle((20, 20, 580, 140), fill=ink)
    for line in range(12):
        draw.text((30, 160 + 40 * line), "NAME NAME 1950-01-01 12345", fill=ink, font_size=18)
    pixels = np.asarray(picture, np.float32)
    pixels = pixels + noise * np.random.default_rng(0).normal(size=pixels.shape)
    return ((pixels - pixels.min()) / np.ptp(pixels)).astype(np.float32)


@pytest.mark.parametrize(
    "pixels",
    [page(4000, 0), page(4000, 0, noise=100), page(3000, 500), page(0, 4000, banner=True)],
)
def test_print(pixels: np.ndarray) -> None:
    assert is_document(prepare(pixels, 96).pixels)


@pytest.mark.parametrize("saturated", [1, 3])
def test_a_breast(saturated: int) -> None:
    pixels = np.clip(saturated * breast(400, 300) / 4000, 0, 1).astype(np.float32)
    assert not is_document(prepare(pixels, 96).pixels)
