"""Boxes on the canvas: where `on_canvas` draws the picture's pixels, patches lie in its boxes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.config import ImageTowerConfig
from mama.data.augment import Layout, on_canvas
from mama.data.studies import Box, Image
from mama.errors import DataError
from mama.evaluation.pointing.boxes import lesion_patches, on_grid

LAYOUTS: list[Layout] = ["native", "square"]
SIZE, GRID = (64, 48), (16, 12)


def image(height: int, width: int, *boxes: tuple[float, float, float, float]) -> Image:
    return Image(
        id="i1",
        laterality="L",
        view="CC",
        vendor=None,
        height=height,
        width=width,
        boxes=tuple(Box(x0=x0, y0=y0, x1=x1, y1=y1, label="mass") for x0, y0, x1, y1 in boxes),
    )


def canvas(layout: Layout = "native", size: tuple[int, int] = SIZE) -> ImageTowerConfig:
    return ImageTowerConfig(tower="vit", size=size, layout=layout)


@st.composite
def boxed(draw: st.DrawFn) -> Image:
    height, width = draw(st.integers(8, 150)), draw(st.integers(8, 150))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return image(height, width, (x0, y0, x1, y1))


@given(boxed(), st.sampled_from(LAYOUTS))
def test_a_box_is_where_the_canvas_shows_its_pixels(one: Image, layout: Layout) -> None:
    (box,) = one.boxes
    x0, y0, x1, y1 = on_grid(box, one, canvas(layout), GRID)
    assert 0 <= x0 < x1 <= GRID[1] + 1e-9
    assert 0 <= y0 < y1 <= GRID[0] + 1e-9
    band = np.zeros((one.height, one.width), np.uint8)
    band[int(box.y0) : int(box.y1)] = 255
    rows = on_canvas(band, SIZE, layout).max(1)
    band = np.zeros_like(band)
    band[:, int(box.x0) : int(box.x1)] = 255
    columns = on_canvas(band, SIZE, layout).max(0)
    for bright, ends, side in ((rows, (y0, y1), 0), (columns, (x0, x1), 1)):
        seen = np.flatnonzero(bright > 127)
        if len(seen):  # a band far narrower than a pixel of the canvas is not seen
            expected = np.array(ends) * SIZE[side] / GRID[side]
            pixel = max(1, SIZE[side] / (one.height, one.width)[side])
            np.testing.assert_allclose([seen[0], seen[-1] + 1], expected, atol=1.5 * pixel)


@given(boxed(), st.sampled_from(LAYOUTS))
def test_patches_are_those_with_their_centre_in_the_box_and_the_boxs_centre(
    one: Image, layout: Layout
) -> None:
    x0, y0, x1, y1 = on_grid(one.boxes[0], one, canvas(layout), GRID)
    found = lesion_patches(one, canvas(layout), GRID)
    middle = int((y0 + y1) / 2), int((x0 + x1) / 2)
    for row, column in np.ndindex(GRID):
        inside = y0 <= row + 0.5 < y1 and x0 <= column + 0.5 < x1
        assert found[row, column] == (inside or (row, column) == middle)
    assert found.any()


def test_values_on_a_canvas_with_margins() -> None:
    """64 x 32 pixels on a canvas of 64 x 64 in patches of 16; 32 x 64 pixels are centred."""
    square = canvas(size=(64, 64))
    tall = lesion_patches(image(64, 32, (0, 0, 16, 32)), square, (4, 4))
    assert tall.nonzero()[0].tolist() == [0, 1]
    assert tall.nonzero()[1].tolist() == [0, 0]
    wide = lesion_patches(image(32, 64, (48, 0, 64, 16)), square, (4, 4))
    assert np.argwhere(wide).tolist() == [[1, 3]]
    stretched = canvas("square", (64, 64))
    tall = lesion_patches(image(64, 32, (0, 0, 16, 32)), stretched, (4, 4))
    assert np.argwhere(tall).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_small_box_has_the_patch_that_holds_its_centre() -> None:
    small = image(64, 48, (41, 9, 43, 10), (47, 63, 48, 64))
    assert np.argwhere(lesion_patches(small, canvas(), GRID)).tolist() == [[2, 10], [15, 11]]


def test_an_image_without_boxes_has_no_such_patch() -> None:
    assert not lesion_patches(image(64, 48), canvas(), GRID).any()


@pytest.mark.parametrize(
    "ends", [(-1, 0, 4, 4), (0, -1, 4, 4), (0, 0, 49, 4), (0, 0, 4, 65), (4, 0, 4, 4), (0, 9, 4, 4)]
)
def test_a_box_outside_the_picture_is_an_error_that_names_the_image(ends: Any) -> None:
    with pytest.raises(DataError) as caught:
        lesion_patches(image(64, 48, ends), canvas(), GRID)
    assert str(caught.value) == (
        "image i1: a box of a lesion lies outside the picture. "
        "Correct the source's box and ingest the dataset again"
    )
