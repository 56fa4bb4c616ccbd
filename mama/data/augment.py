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
    if layout == "square":
        return _resized(pixels, size)
    scale = min(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    canvas = np.zeros(size, np.uint8)
    top = (size[0] - height) // 2
    canvas[top : top + height, :width] = _resized(pixels, (height, width))
    return canvas


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
    height, width = canvas.shape
    matrix = _geometry(canvas, config, random)
    moved = Image.fromarray(canvas).transform(
        (width, height),
        Image.Transform.AFFINE,
        matrix[:2].ravel().tolist(),
        Image.Resampling.BILINEAR,
    )
    view = _photometry(config, random, moved.histogram())[np.asarray(moved)]
    if random.random() < config.blur_probability:
        sigma = random.uniform(*BLUR_SIGMA)
        # In float32: with uint8 output SciPy truncates, which darkens the image.
        soft = gaussian_filter(view, sigma, output=np.float32, radius=BLUR_REACH)
        view = np.where(view > 0, np.maximum(soft.round(), 1), 0).astype(np.uint8)
    return view


def normalise(views: list[np.ndarray]) -> torch.Tensor:
    """Stack N uint8 (H, W) views into float32 (N, 1, H, W) in [-1, 1]; only background is -1."""
    return torch.from_numpy(np.stack(views)).unsqueeze(1).float() / 127.5 - 1.0


def _geometry(canvas: np.ndarray, config: AugmentConfig, random: np.random.Generator) -> np.ndarray:
    """Return the (3, 3) matrix that maps a point (x, y, 1) of the view to the canvas."""
    height, width = canvas.shape
    centre = _shifted(width / 2, height / 2)
    angle = np.deg2rad(random.uniform(-config.rotate_degrees, config.rotate_degrees))
    scale = random.uniform(config.min_scale, config.max_scale)
    shift = random.uniform(-config.shift, config.shift, 2) * (width, height)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    turned = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    mirrored = np.diag([*np.where(random.random(2) < config.flip, -1.0, 1.0), 1.0])
    moved = centre @ turned @ mirrored @ np.linalg.inv(centre) @ _shifted(*-shift)
    return _window(canvas, config.crop, random) @ moved


def _window(canvas: np.ndarray, smallest: float, random: np.random.Generator) -> np.ndarray:
    """Return the (3, 3) map of the canvas to a random window of its shape over the breast."""
    side = np.sqrt(random.uniform(smallest, 1))
    corner = []
    for axis, length in ((1, canvas.shape[1]), (0, canvas.shape[0])):
        tissue = np.flatnonzero(canvas.any(axis=1 - axis))
        first, last = (tissue[0], tissue[-1] + 1) if len(tissue) else (0, length)
        room = last - first - side * length
        # A window longer than the breast covers all of it, as far as the canvas allows.
        start = first + random.uniform(0, 1) * room
        corner.append(np.clip(start, 0, length - side * length))
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
    picture = np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR))
    tissue = Image.fromarray((pixels > 0).astype(np.uint8) * 255)
    kept = np.asarray(tissue.resize(shape, Image.Resampling.BILINEAR)) > 127
    return np.where(kept, np.maximum(picture, 1), 0).astype(np.uint8)
