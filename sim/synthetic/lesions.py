"""Lesions of phantoms: suspicious findings, and benign ones that resemble them.

The smooth mass resembles the spiculated one, and scattered specks resemble the cluster. Size and
brightness are chosen so that intensity hardly distinguishes them: only shape does.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["spiculated", "cluster", "smooth", "scattered"]
Box = tuple[int, int, int, int]
Pixels = NDArray[np.float32]
Floats = NDArray[np.floating]

SUSPICIOUS: frozenset[Kind] = frozenset({"spiculated", "cluster"})
# Clustered specks overlap; scattered ones are brighter, so that peak brightness is uninformative.
SPECK_BRIGHTNESS = {"cluster": 0.5, "scattered": 0.65}
MASS_BRIGHTNESS = 0.5
# Half the side of a mass's box, in pixels.
MASS_REACH = {"spiculated": 42, "smooth": 24}
SPECK_REACH = 7


@dataclass(frozen=True)
class Finding:
    """Lesion or group of specks.

    The position is relative to the breast: `depth` from 0 (chest wall) to 1 (nipple), `outer` and
    `upper` from -1 to 1. `shape` seeds the details, `contrast` scales the brightness.
    """

    kind: Kind
    depth: float
    outer: float
    upper: float
    contrast: float
    shape: int

    @property
    def suspicious(self) -> bool:
        """True if the finding should be biopsied."""
        return self.kind in SUSPICIOUS


@dataclass(frozen=True)
class Lesion:
    """Location of a finding in one image: box (left, top, right, bottom) in pixels."""

    kind: Kind
    box: Box


def add_finding(
    pixels: Pixels,
    finding: Finding,
    centre: tuple[float, float],
    interior: NDArray[np.bool_],
    view: int,
) -> Box:
    """Brighten `pixels` (height, width) in place by a finding.

    Args:
        pixels: the image.
        finding: the finding.
        centre: its column and row; scattered specks are spread over `interior` instead.
        interior: mask (height, width) of the breast's interior.
        view: number of the view; details of a finding differ between views, kind and place do not.

    Returns:
        Its box (left, top, right, bottom).
    """
    rng = np.random.default_rng((finding.shape, view))
    if finding.kind == "smooth" or finding.kind == "spiculated":
        return _add_mass(pixels, finding, centre, rng)
    column, row = centre
    count = int(rng.integers(10, 15))
    if finding.kind == "cluster":
        angle, distance = rng.uniform(0, 2 * np.pi, count), 20 * np.sqrt(rng.uniform(0, 1, count))
        xs, ys = column + distance * np.cos(angle), row + distance * np.sin(angle)
    else:
        ys, xs = np.divmod(rng.choice(np.flatnonzero(interior), count), pixels.shape[1])
    return _add_specks(pixels, xs, ys, SPECK_BRIGHTNESS[finding.kind] * finding.contrast)


def _add_mass(
    pixels: Pixels, finding: Finding, centre: tuple[float, float], rng: np.random.Generator
) -> Box:
    column, row = centre
    left, top, right, bottom = _clipped(pixels, column, row, column, row, 48)
    y, x = np.ogrid[top:bottom, left:right]
    draw = _smooth_mass if finding.kind == "smooth" else _spiculated_mass
    pixels[top:bottom, left:right] += (
        MASS_BRIGHTNESS * finding.contrast * draw(rng, x - column, y - row)
    )
    return _clipped(pixels, column, row, column, row, MASS_REACH[finding.kind])


def _add_specks(pixels: Pixels, xs: Floats, ys: Floats, brightness: float) -> Box:
    height, width = pixels.shape
    reach = SPECK_REACH
    steps = np.arange(-reach, reach + 1)
    xs, ys = np.clip(xs, reach, width - reach - 1), np.clip(ys, reach, height - reach - 1)
    for x, y in zip(xs, ys, strict=True):
        column, row = int(x), int(y)
        spot = np.exp(-((steps[:, None] + row - y) ** 2 + (steps + column - x) ** 2) / 12)
        pixels[row - reach : row + reach + 1, column - reach : column + reach + 1] += (
            brightness * spot
        )
    return _clipped(pixels, xs.min(), ys.min(), xs.max(), ys.max(), reach)


def _clipped(
    pixels: Pixels, left: float, top: float, right: float, bottom: float, margin: int
) -> Box:
    """Return a box enlarged by a margin, within the image."""
    height, width = pixels.shape
    return (
        max(int(left) - margin, 0),
        max(int(top) - margin, 0),
        min(int(right) + margin, width),
        min(int(bottom) + margin, height),
    )


def _smooth_mass(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Return an oval with a crisp margin, (h, w) in 0..1."""
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.8, 1.0)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    distance = np.hypot(along * stretch, across / stretch)
    radius = rng.uniform(15, 21)
    return np.clip((radius - distance) / 3, 0, 1)


def _spiculated_mass(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Return a small ragged core with thin rays, (h, w) in 0..1, as bright as the smooth mass."""
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    count = int(rng.integers(9, 13))
    rays = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
    lengths = rng.uniform(34, 46, count)
    turn = angle[None] - rays[:, None, None]
    offset = np.where(np.cos(turn) > 0, distance * np.abs(np.sin(turn)), np.inf)
    taper = np.clip(1 - distance / lengths[:, None, None], 0, 1) ** 0.5
    star = (np.exp(-((offset / 3) ** 2)) * taper).max(axis=0)
    edge = rng.uniform(9, 13) + 2 * np.cos(3 * angle + rays[0])
    core = np.clip((edge - distance) / 3, 0, 1)
    bright: Floats = np.maximum(core, star)
    return bright
