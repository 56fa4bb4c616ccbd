"""Views of a breast: correct geometry, background stays 0, tissue stays above it."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.config import AugmentConfig
from mama.data.augment import augment, normalise, on_canvas

STILL: dict[str, Any] = {
    "rotate_degrees": 0, "shift": 0, "min_scale": 1, "max_scale": 1, "brightness": 0, "contrast": 0,
}  # fmt: skip
LOW, HIGH = 0.0, 1.0


class Drawn:
    """Draws this place of every range, so that a view shows a setting's end."""

    def __init__(self, place: float):
        self.place = place

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        value = low + self.place * (high - low)
        return value if size is None else np.full(size, value)

    def random(self, size: int | None = None) -> Any:
        return 0.5 if size is None else np.full(size, 0.5)


def still(**changes: Any) -> AugmentConfig:
    """Settings that leave a canvas as it is, but for `changes`."""
    return AugmentConfig(**(STILL | changes))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return rng(seed).integers(1, 256, (height, width), dtype=np.uint8)


def breast(height: int = 60, width: int = 40) -> np.ndarray:
    """Half an ellipse of noise, chest wall at the left, that does not fill its canvas."""
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / (0.4 * height)) ** 2 + (x / (0.7 * width)) ** 2 < 1
    return np.where(inside, noise(height, width), 0).astype(np.uint8)


def marked(height: int, width: int, x: float, y: float) -> np.ndarray:
    """Dark tissue with a soft bright spot at (x, y), in pixels from the canvas' corner."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    return np.round(1 + 250 * spot).astype(np.uint8)


def spot(view: np.ndarray) -> tuple[float, float]:
    """(x, y) of the bright spot's centre of mass."""
    weight = np.maximum(view.astype(float) - 20, 0)
    rows, columns = np.mgrid[: view.shape[0], : view.shape[1]] + 0.5
    return (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()


def extent(view: np.ndarray) -> tuple[int, int, int, int]:
    """First row, last row + 1, first column, last column + 1 with tissue."""
    rows, columns = (np.flatnonzero((view > 0).any(axis)) for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


# Canvas


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), size=st.tuples(*[st.integers(1, 60)] * 2)
)
def test_native_keeps_the_aspect_ratio_with_the_chest_wall_left(
    height: int, width: int, size: tuple[int, int]
) -> None:
    canvas = on_canvas(noise(height, width), size, "native")
    assert (canvas.shape, canvas.dtype) == (size, np.uint8)
    scale = min(size[0] / height, size[1] / width)
    top, bottom, left, right = extent(canvas)
    assert left == 0
    assert abs(top - (size[0] - bottom)) <= 1
    assert bottom - top == pytest.approx(max(1, height * scale), abs=0.51)
    assert right == pytest.approx(max(1, width * scale), abs=0.51)
    assert (canvas[top:bottom, :right] > 0).all()
    assert bottom - top == size[0] or right == size[1]


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), size=st.tuples(*[st.integers(1, 60)] * 2)
)
def test_square_stretches_over_the_whole_canvas(
    height: int, width: int, size: tuple[int, int]
) -> None:
    canvas = on_canvas(noise(height, width), size, "square")
    assert (canvas.shape, canvas.dtype) == (size, np.uint8)
    assert (canvas > 0).all()


@pytest.mark.parametrize(("layout", "expected"), [("native", (8, 8)), ("square", (16, 24))])
def test_a_resized_breast_keeps_what_it_shows(layout: Any, expected: tuple[int, int]) -> None:
    pixels = np.full((32, 32), 60, np.uint8)
    pixels[8:24, 8:24] = 200
    size = (16, 24) if layout == "square" else (8, 20)
    canvas = on_canvas(pixels, size, layout)
    assert tuple(np.subtract(extent(canvas)[1::2], extent(canvas)[::2])) == expected
    middle = canvas[size[0] // 2, expected[1] // 2]
    assert (canvas[0, 0], middle) == (60, 200)


def test_a_breast_of_the_canvas_own_size_is_not_touched() -> None:
    pixels = breast()
    for layout in ("native", "square"):
        assert np.array_equal(on_canvas(pixels, pixels.shape, layout), pixels)


@pytest.mark.parametrize("layout", ["native", "square"])
def test_background_and_tissue_stay_apart_when_a_breast_shrinks(layout: Any) -> None:
    pixels = np.zeros((120, 80), np.uint8)
    pixels[20:100, :50] = 1  # the darkest tissue
    canvas = on_canvas(pixels, (30, 20), layout)
    expected = np.zeros((30, 20), np.uint8)
    expected[5:25, :12] = 1
    seen = np.abs(canvas.astype(int) - expected)
    assert canvas.max() == 1
    assert not np.delete(seen, [4, 25], axis=0)[:, np.r_[:12, 13:20]].any()


@pytest.mark.parametrize("layout", ["native", "square"])
def test_an_image_without_tissue_stays_so(layout: Any) -> None:
    canvas = on_canvas(np.zeros((50, 30), np.uint8), (28, 28), layout)
    assert not canvas.any()
    assert not augment(canvas, AugmentConfig(crop=0.2, blur_probability=1), rng()).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 2)])
@pytest.mark.parametrize("layout", ["native", "square"])
def test_tiny_images_give_views(shape: tuple[int, int], layout: Any) -> None:
    canvas = on_canvas(noise(*shape), (28, 14), layout)
    assert canvas.any()
    everything = AugmentConfig(crop=0.5, flip=0.5, blur_probability=1)
    views = [augment(canvas, everything, rng(seed)) for seed in range(20)]
    assert {view.shape for view in views} == {(28, 14)}
    assert sum(view.any() for view in views) >= 15


# Geometry


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 99), size=st.tuples(*[st.integers(1, 50)] * 2))
def test_settings_that_change_nothing_give_the_canvas_back(
    seed: int, size: tuple[int, int]
) -> None:
    canvas = np.where(noise(*size, seed=seed) > 60, noise(*size, seed=seed), 0).astype(np.uint8)
    assert np.array_equal(augment(canvas, still(), rng(seed)), canvas)


@settings(deadline=None, max_examples=60)
@given(
    degrees=st.floats(0, 180),
    shift=st.floats(0, 0.1),
    grow=st.floats(1, 1.5),
    shrink=st.floats(0.5, 1),
    place=st.sampled_from([LOW, HIGH]),
    x=st.floats(30, 40),
    y=st.floats(42, 58),
)
def test_rotation_scale_and_shift_move_a_point_where_geometry_says(
    degrees: float, shift: float, grow: float, shrink: float, place: float, x: float, y: float
) -> None:
    height, width = 100, 70
    config = still(rotate_degrees=degrees, shift=shift, min_scale=shrink, max_scale=grow)
    view = augment(marked(height, width, x, y), config, Drawn(place))  # type: ignore[arg-type]
    sign, scale = (1, grow) if place == HIGH else (-1, shrink)
    angle = sign * np.deg2rad(degrees)  # clockwise on the screen, where y points down
    dx, dy = x - width / 2, y - height / 2
    expected = (
        width / 2 + scale * (dx * np.cos(angle) - dy * np.sin(angle)) + sign * shift * width,
        height / 2 + scale * (dx * np.sin(angle) + dy * np.cos(angle)) + sign * shift * height,
    )
    assert spot(view) == pytest.approx(expected, abs=0.2)


@settings(deadline=None, max_examples=60)
@given(place=st.floats(0, 1), crop=st.floats(0.3, 1))
def test_a_crop_is_enlarged_to_the_canvas(place: float, crop: float) -> None:
    height, width = 100, 70
    side = np.sqrt(crop + place * (1 - crop))
    left, top = place * (1 - side) * width, place * (1 - side) * height
    x, y = left + 0.4 * side * width, top + 0.7 * side * height
    view = augment(marked(height, width, x, y), still(crop=crop), Drawn(place))  # type: ignore[arg-type]
    assert spot(view) == pytest.approx((0.4 * width, 0.7 * height), abs=0.2)


def seen_part(crop: float, seed: int, height: int = 120, width: int = 80) -> tuple[float, float]:
    """Share of the height and of the width that a random crop shows."""
    rows, columns = np.mgrid[:height, :width] + 1
    shares = []
    for axis, ramp in enumerate((rows, columns)):
        view = augment(ramp.astype(np.uint8), still(crop=crop), rng(seed)).astype(float)
        shares.append((view.max() - view.min() + 1) / (height, width)[axis])
    return shares[0], shares[1]


def test_a_crop_keeps_its_share_of_the_canvas_and_its_shape() -> None:
    parts = np.array([seen_part(0.25, seed) for seed in range(150)])
    assert np.abs(parts[:, 0] - parts[:, 1]).max() < 0.04  # pixels of 1/80
    areas = parts.prod(1)
    assert areas.min() > 0.25 - 0.03
    assert areas.min() < 0.35
    assert areas.max() > 0.9
    assert np.mean(areas) == pytest.approx(0.625, abs=0.06)  # even in area, not in length


@pytest.mark.parametrize("corner", [(0, 0), (30, 0), (60, 40), (10, 20)])
def test_a_crop_smaller_than_the_breast_shows_breast_alone(corner: tuple[int, int]) -> None:
    canvas = np.zeros((120, 80), np.uint8)
    top, left = corner
    canvas[top : top + 60, left : left + 40] = 100
    # At most a quarter of the area: half of each side, which is the breast's.
    config = still(crop=0.05)
    for seed in range(40):
        view = augment(canvas, config, rng(seed))
        assert view.any()
        rows, columns = (view > 0).any(1), (view > 0).any(0)
        side = np.sqrt(rng_area(seed))
        if side < 0.5:
            assert rows.all()
            assert columns.all()
        else:  # all of the breast
            assert (view > 0).sum() / view.size == pytest.approx(0.25 / side**2, rel=0.1)


def rng_area(seed: int) -> float:
    """The area that `augment` draws with this seed, read off a canvas full of tissue."""
    rows, columns = seen_part(0.05, seed)
    return rows * columns


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), crop=st.floats(0.1, 1))
def test_no_crop_misses_a_breast(seed: int, crop: float) -> None:
    assert (augment(breast(), still(crop=crop), rng(seed)) > 0).mean() > 0.1


def test_crops_reach_every_part_of_the_breast() -> None:
    x, y = np.array([spot_seen(seed) for seed in range(60)]).T
    assert x.min() < 20
    assert y.min() < 25
    assert x.max() > 50
    assert y.max() > 75


def spot_seen(seed: int) -> tuple[float, float]:
    """Return the point of a 100 x 70 canvas that the centre of a small crop shows."""
    rows, columns = np.mgrid[:100, :70] + 1
    at = [augment(r.astype(np.uint8), still(crop=0.01), rng(seed))[50, 35] for r in (columns, rows)]
    return float(at[0]), float(at[1])


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flips_mirror_both_ways_and_never_when_they_are_off(flip: float) -> None:
    canvas = breast()
    expected = canvas[::-1, ::-1] if flip else canvas
    for seed in range(10):
        assert np.array_equal(augment(canvas, still(flip=flip), rng(seed)), expected)


def test_flips_are_independent() -> None:
    canvas = breast()
    kinds = [canvas, canvas[::-1], canvas[:, ::-1], canvas[::-1, ::-1]]
    seen = [0] * 4
    for seed in range(200):
        view = augment(canvas, still(flip=0.5), rng(seed))
        seen[[np.array_equal(view, kind) for kind in kinds].index(True)] += 1
    assert min(seen) > 25


# Brightness


@pytest.mark.parametrize(("place", "expected"), [(LOW, (80, 160)), (HIGH, (120, 240))])
def test_brightness_multiplies(place: float, expected: tuple[int, int]) -> None:
    canvas = np.array([[0, 100, 200]], np.uint8).repeat(3, 0)
    view = augment(canvas, still(brightness=0.2), Drawn(place))  # type: ignore[arg-type]
    assert view.tolist() == [[0, *expected]] * 3


@pytest.mark.parametrize(("place", "dark", "bright"), [(LOW, 95, 125), (HIGH, 65, 155)])
def test_contrast_turns_about_the_mean_of_the_tissue(place: float, dark: int, bright: int) -> None:
    canvas = np.array([[0, 0, 0, 80, 80, 140, 140]], np.uint8).repeat(3, 0)
    view = augment(canvas, still(contrast=0.5), Drawn(place))  # type: ignore[arg-type]
    assert view.tolist() == [[0, 0, 0, dark, dark, bright, bright]] * 3


def test_brightness_ends_at_black_and_white_but_tissue_is_never_background() -> None:
    canvas = np.array([[0, 1, 100, 255]], np.uint8)
    assert augment(canvas, still(brightness=1), Drawn(LOW)).tolist() == [[0, 1, 1, 1]]  # type: ignore[arg-type]
    assert augment(canvas, still(brightness=1), Drawn(HIGH)).tolist() == [[0, 2, 200, 255]]  # type: ignore[arg-type]


def test_blur_smooths_without_darkening() -> None:
    flat = np.full((40, 40), 100, np.uint8)
    rough = noise(200, 200)
    for seed in range(5):
        assert np.array_equal(augment(flat, still(blur_probability=1), rng(seed)), flat)
        view = augment(rough, still(blur_probability=1), rng(seed)).astype(float)
        assert view.std() < rough.std()
        assert view.mean() == pytest.approx(rough.mean(), abs=0.1)


def test_blur_comes_as_often_as_configured() -> None:
    canvas = marked(40, 40, 20, 20)
    config = still(blur_probability=0.4)
    changed = [not np.array_equal(augment(canvas, config, rng(n)), canvas) for n in range(300)]
    # A sigma below a fifth of a pixel changes nothing, so a little less often.
    assert 0.27 < np.mean(changed) < 0.45


# Background

settings_of_views = st.builds(
    AugmentConfig,
    crop=st.floats(0.1, 1),
    flip=st.floats(0, 1),
    rotate_degrees=st.floats(0, 180),
    shift=st.floats(0, 1),
    min_scale=st.floats(0.2, 1),
    max_scale=st.floats(1, 4),
    brightness=st.floats(0, 1),
    contrast=st.floats(0, 1),
    blur_probability=st.floats(0, 1),
)


@settings(deadline=None, max_examples=60)
@given(config=settings_of_views, seed=st.integers(0, 2**32 - 1), darkest=st.booleans())
def test_only_geometry_says_what_is_background(
    config: AugmentConfig, seed: int, darkest: bool
) -> None:
    canvas = np.minimum(breast(), 1) if darkest else breast()
    view = augment(canvas, config, rng(seed))
    assert (view.shape, view.dtype) == (canvas.shape, np.uint8)
    calm = {"brightness": 0.0, "contrast": 0.0, "blur_probability": 0.0}
    moved = augment(canvas, config.model_copy(update=calm), rng(seed))
    assert np.array_equal(view > 0, moved > 0)
    batch = normalise([view])
    assert torch.equal(batch[0, 0] == -1, torch.from_numpy(view == 0))
    assert torch.equal(batch[0, 0] <= -1, torch.from_numpy(view == 0))


@settings(deadline=None, max_examples=60)
@given(config=settings_of_views, seed=st.integers(0, 2**32 - 1))
def test_no_hole_opens_in_dark_tissue(config: AugmentConfig, seed: int) -> None:
    canvas = np.ones((40, 30), np.uint8)
    view = augment(canvas, config, rng(seed)) > 0
    bright = augment(255 * canvas, config, rng(seed)) > 0
    assert np.array_equal(view, bright)


def test_normalised_values() -> None:
    views = [np.array([[0, 1], [255, 51]], np.uint8), np.zeros((2, 2), np.uint8)]
    batch = normalise(views)
    assert (batch.shape, batch.dtype) == ((2, 1, 2, 2), torch.float32)
    assert batch[0, 0].flatten().tolist() == pytest.approx([-1, 1 / 127.5 - 1, 1, -0.6])
    assert torch.equal(batch[1], torch.full((1, 2, 2), -1.0))


def test_a_view_depends_on_its_generator_alone() -> None:
    config = AugmentConfig(crop=0.5, blur_probability=1)
    canvas = breast()
    before = canvas.copy()
    np.random.seed(0)
    first = augment(canvas, config, rng(1))
    np.random.seed(1)
    assert np.array_equal(augment(canvas, config, rng(1)), first)
    assert not np.array_equal(augment(canvas, config, rng(2)), first)
    assert np.array_equal(canvas, before)
