"""Pictures are shrunk by averages of areas, with or without a table of display values."""

import numpy as np
import pytest
from PIL import Image

from mama.data.dicom.shrink import fit, resize

LEVELS = np.random.default_rng(0).integers(0, 4096, (301, 207), dtype=np.uint16)
TABLE = np.linspace(0, 1, 2**16, dtype=np.float32) ** 2


@pytest.mark.parametrize("long_side", [300, 150, 97, 40, 1])
def test_areas_are_those_of_a_box_filter(long_side: int):
    shown = TABLE[LEVELS]
    size = fit(shown.shape, long_side)
    expected = Image.fromarray(shown).resize(size[::-1], Image.Resampling.BOX)
    for made in (resize(LEVELS, size, TABLE), resize(shown, size)):
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, np.asarray(expected), rtol=2e-6)


def test_enlarging_interpolates():
    made = resize(np.array([[0, 1]], np.uint16), (1, 4), np.array([0, 1], np.float32))
    np.testing.assert_allclose(made, [[0, 0.25, 0.75, 1]])


def test_the_longest_side_is_fitted():
    assert fit((3904, 2320), 518) == (518, 308)
    assert fit((1, 600), 60) == (1, 60)
