"""A cached breast on the model's canvas, and its random augmentation.

Background is 0 in every step, from the cache to the batch, and tissue 1 to 255: so an image carries its own
tissue mask (`pixels > 0`), and jitter never makes the empty part of a canvas look like breast.
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
    """A cached breast on a canvas of `size` (height, width).

    Args:
        pixels: uint8 (h, w), 0 is background.
        layout: `native` keeps the aspect ratio, with the chest wall at the left edge and the breast centred from top
            to bottom; `square` stretches the breast over the whole canvas.

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
    """One random view of a canvas: crop, rotation, scale, shift and mirroring in one resampling, then brightness.

    A crop keeps at least `config.crop` of the canvas' area and its shape, lies over the breast and is
    enlarged to the canvas. Contrast turns about the mean of the tissue.

    Args:
        canvas: uint8 (height, width), 0 is background.

    Returns:
        uint8 (height, width), 0 is background.
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
        # In floats, since SciPy cuts off what uint8 cannot hold, which darkens.
        soft = gaussian_filter(view, sigma, output=np.float32, radius=BLUR_REACH)
        view = np.where(view > 0, np.maximum(soft.round(), 1), 0).astype(np.uint8)
    return view


def normalise(views: list[np.ndarray]) -> torch.Tensor:
    """N uint8 (H, W) views as one float32 (N, 1, H, W) in [-1, 1]; background is -1 and nothing else is."""
    return torch.from_numpy(np.stack(views)).unsqueeze(1).float() / 127.5 - 1.0


def _geometry(canvas: np.ndarray, config: AugmentConfig, random: np.random.Generator) -> np.ndarray:
    """(3, 3) from a point (x, y, 1) of the view to the point of the canvas that is shown there."""
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
    """(3, 3) from the whole canvas to a random window of its shape that lies over the breast."""
    side = np.sqrt(random.uniform(smallest, 1))
    corner = []
    for axis, length in ((1, canvas.shape[1]), (0, canvas.shape[0])):
        tissue = np.flatnonzero(canvas.any(axis=1 - axis))
        first, last = (tissue[0], tissue[-1] + 1) if len(tissue) else (0, length)
        room = last - first - side * length
        # A window longer than the breast takes all of it, as far as it stays on the canvas.
        start = first + random.uniform(0, 1) * room
        corner.append(np.clip(start, 0, length - side * length))
    return _shifted(*corner) @ np.diag([side, side, 1.0])


def _photometry(
    config: AugmentConfig, random: np.random.Generator, histogram: list[int]
) -> np.ndarray:
    """uint8 (256,): the new brightness of each old one. On grey pixels all of colour jitter is such a table."""
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
    """uint8 of `size`, smoothed when it shrinks; tissue stays tissue where half of a pixel is."""
    if pixels.shape == size:
        return pixels
    shape = (size[1], size[0])
    picture = np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR))
    tissue = Image.fromarray((pixels > 0).astype(np.uint8) * 255)
    kept = np.asarray(tissue.resize(shape, Image.Resampling.BILINEAR)) > 127
    return np.where(kept, np.maximum(picture, 1), 0).astype(np.uint8)
