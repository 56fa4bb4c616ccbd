"""Augmentation: place a cached breast on the model's canvas and transform it at random.

From the cache to the batch, background is 0 and tissue is 1 to 255, so each image carries its own
tissue mask (`pixels > 0`) and jitter never makes the empty part of a canvas look like breast.
"""

from typing import Literal

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from mama.config import AugmentConfig

Layout = Literal["native", "square"]
BLUR_SIGMA = (0.1, 2.0)  # pixels (MaMA, section 3)
BLUR_REACH = 3  # pixels; the paper's kernel has 7
BILINEAR = Image.Resampling.BILINEAR
EXACT = 1e-6  # pixels; rounding error of a matrix


def on_canvas(pixels: np.ndarray, size: tuple[int, int], layout: Layout) -> np.ndarray:
    """Place a cached breast on a canvas of `size` (height, width).

    Args:
        pixels: uint8 (h, w); 0 is background.
        size: height and width of the canvas in pixels.
        layout: `native` keeps the aspect ratio, with the chest wall at the left edge and the breast
            vertically centred; `square` stretches the breast over the whole canvas.

    Returns:
        uint8 (height, width).
    """
    top, height, width = placement(pixels.shape, size, layout)
    canvas = np.zeros(size, np.uint8)
    canvas[top : top + height, :width] = _resized(pixels, (height, width))
    return canvas


def placement(
    shape: tuple[int, ...], size: tuple[int, int], layout: Layout
) -> tuple[int, int, int]:
    """Return top, height and width of a breast of `shape` on its canvas, as `on_canvas` places it.

    Its left edge, the chest wall, is always the canvas'.
    """
    if layout == "square":
        return 0, *size
    scale = min(size[0] / shape[0], size[1] / shape[1])
    height, width = (max(1, round(side * scale)) for side in shape)
    return (size[0] - height) // 2, height, width


def augment(canvas: np.ndarray, config: AugmentConfig, random: np.random.Generator) -> np.ndarray:
    """Return a random view of a canvas.

    Crop, rotation, scale, shift and mirroring are one resampling step, followed by brightness,
    contrast and blur. A crop keeps the canvas' aspect ratio and at least `config.crop` of its area,
    overlaps the breast and is enlarged to the canvas. Contrast is relative to the mean of the
    tissue.

    Args:
        canvas: uint8 (height, width); 0 is background.
        config: ranges and probabilities of the transformations.
        random: generator of all random choices.

    Returns:
        uint8 (height, width); 0 is background.
    """
    picture = Image.fromarray(canvas)
    moved = _resampled(picture, _geometry(picture, config, random))
    view = np.asarray(moved.point(_photometry(config, random, moved.histogram()).tolist()))
    if random.random() < config.blur_probability:
        sigma = random.uniform(*BLUR_SIGMA)
        # In float32: with uint8 output SciPy truncates, which darkens the image.
        soft = gaussian_filter(view, sigma, output=np.float32, radius=BLUR_REACH)
        view = np.maximum(np.rint(soft).astype(np.uint8), 1) * (view > 0)
    return view


def normalise(views: list[np.ndarray]) -> torch.Tensor:
    """Stack N uint8 (H, W) views into float32 (N, 1, H, W) in [-1, 1]; only background is -1."""
    return torch.from_numpy(np.stack(views)).unsqueeze(1).float().div_(127.5).sub_(1.0)


def _resampled(canvas: Image.Image, matrix: np.ndarray) -> Image.Image:
    """Return the view that a (3, 3) matrix maps to the canvas; 0 where it leaves the canvas.

    A view along the axes, as in the paper's augmentation, is resized: four times as fast.
    """
    width, height = canvas.size
    (across, skew, left), (turn, down, top) = matrix[:2]
    x, y = sorted((left, left + across * width)), sorted((top, top + down * height))
    inside = min(x[0], y[0]) > -EXACT and x[1] < width + EXACT and y[1] < height + EXACT
    if not inside or max(abs(skew), abs(turn)) > EXACT:
        affine = matrix[:2].ravel().tolist()
        return canvas.transform(canvas.size, Image.Transform.AFFINE, affine, BILINEAR)
    box = max(0.0, x[0]), max(0.0, y[0]), min(x[1], width), min(y[1], height)
    view = canvas.resize(canvas.size, BILINEAR, box)
    if across < 0:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return view.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if down < 0 else view


def _geometry(
    canvas: Image.Image, config: AugmentConfig, random: np.random.Generator
) -> np.ndarray:
    """Return the (3, 3) matrix that maps a point (x, y, 1) of the view to the canvas."""
    width, height = canvas.size
    centre = _shifted(width / 2, height / 2)
    angle = np.deg2rad(random.uniform(-config.rotate_degrees, config.rotate_degrees))
    scale = random.uniform(config.min_scale, config.max_scale)
    shift = random.uniform(-config.shift, config.shift, 2) * (width, height)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    turned = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    mirrored = np.diag([*np.where(random.random(2) < config.flip, -1.0, 1.0), 1.0])
    back = _shifted(-width / 2, -height / 2)
    moved = centre @ turned @ mirrored @ back @ _shifted(*-shift)
    return _window(canvas, config.crop, random) @ moved


def _window(canvas: Image.Image, smallest: float, random: np.random.Generator) -> np.ndarray:
    """Return the (3, 3) map of the canvas to a random window of its shape over the breast."""
    side = np.sqrt(random.uniform(smallest, 1))
    breast = canvas.getbbox() or (0, 0, *canvas.size)
    corner = []
    for length, first, last in zip(canvas.size, breast[:2], breast[2:], strict=True):
        # A window longer than the breast covers all of it, as far as the canvas allows.
        start = first + random.uniform(0, 1) * (last - first - side * length)
        corner.append(min(max(start, 0), length - side * length))
    return _shifted(*corner) @ np.diag([side, side, 1.0])


def _photometry(
    config: AugmentConfig, random: np.random.Generator, histogram: list[int]
) -> np.ndarray:
    """Return the lookup table, uint8 (256,), of brightness and contrast jitter."""
    brightness = 1 + random.uniform(-config.brightness, config.brightness)
    contrast = 1 + random.uniform(-config.contrast, config.contrast)
    if config.jitter_probability < 1 and random.random() >= config.jitter_probability:
        brightness = contrast = 1.0
    levels = np.arange(256)
    counts = np.array([0, *histogram[1:256]])
    mean = (counts * levels).sum() / max(1, counts.sum())
    table = np.clip(np.round(brightness * (mean + contrast * (levels - mean))), 1, 255)
    table[0] = 0
    return table.astype(np.uint8)


def _shifted(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to `size` with antialiasing; pixels that are at least half tissue stay tissue."""
    if pixels.shape == size:
        return pixels
    shape = (size[1], size[0])
    picture = np.asarray(Image.fromarray(pixels).resize(shape, BILINEAR))
    tissue = Image.fromarray((pixels > 0).astype(np.uint8) * 255)
    kept = np.asarray(tissue.resize(shape, BILINEAR)) > 127
    return np.where(kept, np.maximum(picture, 1), 0).astype(np.uint8)
