"""The breast is found among labels, tape and film, turned, and scaled."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mama.data.dicom.pixels import read_pixels
from mama.data.tissue import breast_mask, otsu, prepare

REAL = Path(__file__).parents[4] / "shared" / "data" / "mini_mias"
ROWS, COLUMNS = np.mgrid[:512, :400]
SHAPE = ((ROWS - 240) / 200) ** 2 + ((COLUMNS - 60) / 220) ** 2 < 1
TISSUE = SHAPE & (COLUMNS >= 60)  # the chest wall at column 60


def film(base: float = 0.06) -> np.ndarray:
    """A scanned film: black padding, film base, breast, label, light past the edge, scratches."""
    noise = np.random.default_rng(0).normal(0, 0.004, SHAPE.shape)
    pixels = np.where(COLUMNS >= 60, base, 0.0)
    pixels[TISSUE] = (0.45 + 0.2 * np.sin(ROWS / 17) * np.cos(COLUMNS / 13))[TISSUE]
    pixels[20:80, 330:370] = 1.0  # label
    pixels[:, 394:] = 1.0  # light past the film's edge
    pixels[60:64, 155:330] = 0.5  # a streak from it to the breast
    pixels[226:228, 20:200] = 0.9  # scratch across the chest wall
    return np.clip(pixels + noise * (COLUMNS >= 60), 0, 1).astype(np.float32)


@pytest.mark.parametrize("base", [0.0, 0.03, 0.12])
def test_mask_is_the_breast_and_nothing_else(base: float):
    # At search size: every second pixel.
    mask = breast_mask(film(base)[::2, ::2])
    truth = TISSUE[::2, ::2]
    assert (mask & truth).sum() >= 0.99 * truth.sum()
    assert (mask & ~truth).sum() <= 0.07 * truth.sum()
    assert not mask[10:40, 165:185].any()
    assert not mask[:, :27].any()


def test_crop_keeps_the_aspect_and_drops_the_surroundings():
    breast = prepare(film(), 200)
    assert breast.found
    assert breast.pixels.dtype == np.uint8
    height, width = breast.pixels.shape
    assert height == 200
    assert width / height == pytest.approx(220 / 400, abs=0.03)
    # An ellipse fills pi/4 of its box.
    assert (breast.pixels > 0).mean() == pytest.approx(np.pi / 4, abs=0.03)
    assert {1, 255} <= set(np.unique(breast.pixels))


def test_chest_wall_is_always_on_the_left():
    plain, mirrored = prepare(film(), 200).pixels, prepare(film()[:, ::-1].copy(), 200).pixels
    assert (plain[:, 0] > 0).mean() > 0.9
    assert (plain[:, -1] > 0).mean() < 0.3
    assert plain.shape == mirrored.shape
    assert np.abs(plain.astype(int) - mirrored).mean() < 2


def test_brightness_and_contrast_of_the_scan_do_not_matter():
    plain, faint = prepare(film(), 200).pixels, prepare(film() * np.float32(0.5), 200).pixels
    assert plain.shape == faint.shape
    assert np.abs(plain.astype(int) - faint).mean() < 2


GLARE = {  # top, bottom, left, right; over 5 % of what is lit
    "two markers": [(10, 70, 290, 390), (420, 490, 300, 390)],
    "tape": [(0, 512, 350, 400)],
    "frame": [(0, 14, 0, 400), (498, 512, 0, 400), (0, 512, 0, 14), (0, 512, 386, 400)],
}


@pytest.mark.parametrize("base", [0.0, 0.06])
@pytest.mark.parametrize("name", GLARE)
def test_glare_of_any_size_and_brightness_does_not_move_the_mask(name: str, base: float):
    pixels = film(base)
    pixels[:, 394:] = pixels[20:80, 330:370] = base
    plain, covered = breast_mask(pixels[::2, ::2]), np.zeros(pixels.shape, bool)
    for top, bottom, left, right in GLARE[name]:
        covered[top:bottom, left:right] = True
    assert covered.sum() > 0.05 * TISSUE.sum()
    free = ~covered[::2, ::2]
    for times in (1, 1.5, 2, 4, 10):
        bright = np.where(covered, times * np.float32(0.67), pixels) / max(1, times)
        found = breast_mask(bright[::2, ::2])
        iou = (found & plain & free).sum() / ((found | plain) & free).sum()
        assert iou >= 0.95, times


def test_saturated_tissue_on_a_visible_film_base_is_no_glare():
    pixels = film()
    pixels[:, 394:] = pixels[20:80, 330:370] = 0.06
    mask = breast_mask(np.clip(pixels[::2, ::2] * 3, 0, 1))
    truth = TISSUE[::2, ::2]
    assert (mask & truth).sum() / (mask | truth).sum() >= 0.95


def test_small_specks_survive_shrinking():
    pixels = film()
    plain = prepare(pixels, 134).pixels.astype(int)  # to a third
    pixels[150:350:50, 100:200:50] = 1.0  # eight specks of one pixel
    change = prepare(pixels, 134).pixels - plain
    assert ndimage.label(change > 8)[1] == 8


def test_without_tissue_the_whole_picture_is_used():
    for pixels in (np.zeros((30, 20)), np.full((30, 20), 0.7)):
        breast = prepare(pixels.astype(np.float32), 60)
        assert not breast.found
        assert breast.pixels.shape == (60, 40)
        assert (breast.pixels > 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (1, 600), (600, 2), (2, 2), (7, 5)])
def test_tiny_and_thin_pictures_are_used_whole_or_in_part(shape: tuple[int, int]):
    pixels = np.random.default_rng(0).random(shape, np.float32)
    breast = prepare(pixels, 60)
    assert max(breast.pixels.shape) == 60
    assert (breast.pixels > 0).any()


def test_a_speck_of_dust_is_no_breast():
    pixels = np.zeros((256, 200), np.float32)
    pixels[100:110, 100:110] = 1
    assert not breast_mask(pixels).any()


def test_otsu_separates_two_heaps():
    values = np.concatenate([np.full(90, 0.2), np.full(10, 0.8)])
    assert 0.2 < otsu(values) <= 0.8
    assert 0 <= otsu(np.full(10, 0.5)) <= 1


@pytest.mark.skipif(not REAL.is_dir(), reason="the mini-MIAS films are not here")
def test_real_films():
    """In mini-MIAS the chest wall is on the right of odd films and on the left of even ones."""
    paths = sorted((REAL / "png").glob("*.png"))[::18]
    assert len(paths) == 12
    for path in paths:
        pixels = read_pixels(path)
        breast = prepare(pixels, 256)
        assert breast.found, path.name
        small = pixels[2::4, 2::4]
        turned = small if int(path.stem[3:]) % 2 == 0 else small[:, ::-1]
        expected = prepare(np.ascontiguousarray(turned), 256).pixels
        mirrored_right = np.abs(_fit(breast.pixels, expected) - expected).mean()
        mirrored_wrong = np.abs(_fit(breast.pixels, expected)[:, ::-1] - expected).mean()
        assert mirrored_right < mirrored_wrong / 2, path.name
        assert 0.5 < (breast.pixels > 0).mean() <= 1, path.name


def _fit(pixels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """float of the shape of `like`, by cutting or adding a few background columns and rows."""
    fitted = np.zeros(like.shape)
    height, width = np.minimum(pixels.shape, like.shape)
    fitted[:height, :width] = pixels[:height, :width]
    return fitted
