"""Mammography phantoms: four views of a patient that agree with each other, with their ground truth.

A breast is a small volume of tissue and a few findings in it; a view is a projection of that volume.
CC looks from above and sees depth and the outer-inner axis, MLO sees depth and the upper-lower axis,
so that density, shape and findings agree between views by construction.

Breasts with and without a suspicious finding hold masses and specks equally often, apart from those that
hold nothing: what is benign is no less bright, so a model has to look at shapes (see `sim.lesions`).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sim.lesions import Finding, Kind, Lesion, Pixels, add_finding

Side = Literal["L", "R"]
View = Literal["CC", "MLO"]
Density = Literal["A", "B", "C", "D"]

HEIGHT, WIDTH = 384, 256
SIDES: tuple[Side, ...] = ("L", "R")
VIEWS: tuple[View, ...] = ("CC", "MLO")

# Share of the breast that is fibroglandular; BI-RADS names four, without overlap here.
GLAND = {"A": (0.04, 0.12), "B": (0.20, 0.32), "C": (0.44, 0.60), "D": (0.74, 0.92)}
# Share of breasts without a suspicious finding that hold no finding at all.
CLEAR = 0.1
# Share of breasts that hold a mass and specks at once.
BOTH = 0.2


@dataclass(frozen=True)
class Mammogram:
    """One image: float32 (HEIGHT, WIDTH), 0 = air, about 0.2 = fat, 1 = brightest."""

    laterality: Side
    view: View
    pixels: Pixels
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class Phantom:
    """A patient's exam: what is true, and its four images (L CC, L MLO, R CC, R MLO)."""

    density: Density
    findings: dict[Side, tuple[Finding, ...]]
    images: tuple[Mammogram, ...]


def make_phantom(
    rng: np.random.Generator, density: Density, suspicious: dict[Side, bool]
) -> Phantom:
    """Draw one patient of the given density, with a suspicious finding in the breasts asked for."""
    outline = Outline.draw(rng)
    tone = Tone.draw(rng, density)
    findings = {side: _draw_findings(rng, suspicious[side], outline) for side in SIDES}
    images: list[Mammogram] = []
    for side in SIDES:
        tissue = rng.standard_normal((9, 9, 7), dtype=np.float32)  # upper-lower, outer-inner, depth
        for view in VIEWS:
            images.append(_project(rng, side, view, outline, tone, tissue, findings[side]))
    return Phantom(density, findings, tuple(images))


@dataclass(frozen=True)
class Outline:
    """The shape both breasts share, in pixels: `reach` from chest wall to nipple, `half` its half height
    on CC; on MLO it hangs lower and the pectoral muscle fills the corner (`muscle` wide, `muscle_height` high)."""

    reach: float
    half: float
    muscle: float
    muscle_height: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Outline":
        """The outline of one patient."""
        half = rng.uniform(140, 175)
        return cls(
            reach=half * rng.uniform(1.0, 1.28),
            half=half,
            muscle=rng.uniform(60, 95),
            muscle_height=rng.uniform(150, 220),
        )

    def centre(self, view: View) -> float:
        """Row of the nipple."""
        return HEIGHT / 2 + (12 if view == "MLO" else 0)

    def place(self, finding: Finding, view: View) -> tuple[float, float]:
        """Column and row of a finding, in the image whose chest wall is on the left."""
        along = finding.outer if view == "CC" else finding.upper
        return finding.depth * self.reach, self.centre(view) - along * self.half

    def in_muscle(self, column: Any, row: Any) -> Any:
        """Whether a place on MLO lies in the pectoral muscle or at its edge."""
        return column / self.muscle + row / self.muscle_height < 1.25


@dataclass(frozen=True)
class Tone:
    """What a patient's tissue is made of: share of fibroglandular tissue, brightness of fat and what gland adds."""

    share: float
    fat: float
    gland: float

    @classmethod
    def draw(cls, rng: np.random.Generator, density: Density) -> "Tone":
        """The tissue of one patient of this density."""
        return cls(rng.uniform(*GLAND[density]), rng.uniform(0.16, 0.20), rng.uniform(0.25, 0.31))


def _draw_findings(
    rng: np.random.Generator, suspicious: bool, outline: Outline
) -> tuple[Finding, ...]:
    if not suspicious and rng.random() < CLEAR:
        return ()
    mass, specks = True, True
    if rng.random() >= BOTH:
        mass = bool(rng.random() < 0.5)
        specks = not mass
    guilty = "mass" if mass and (not specks or rng.random() < 0.5) else "specks"
    kinds: list[Kind] = []
    if mass:
        kinds.append("spiculated" if suspicious and guilty == "mass" else "smooth")
    if specks:
        kinds.append("cluster" if suspicious and guilty == "specks" else "scattered")
    return tuple(_draw_finding(rng, kind, outline) for kind in kinds)


def _draw_finding(rng: np.random.Generator, kind: Kind, outline: Outline) -> Finding:
    contrast, shape = float(rng.uniform(0.75, 1.25)), int(rng.integers(2**31))
    while True:  # rejection: well inside the breast on both views, and clear of the muscle
        depth, outer, upper = rng.uniform((0.15, -0.65, -0.65), (0.75, 0.65, 0.65)).tolist()
        finding = Finding(kind, depth, outer, upper, contrast, shape)
        inside = max(depth**2 + outer**2, depth**2 + upper**2) < 0.6
        if inside and not outline.in_muscle(*outline.place(finding, "MLO")):
            return finding


def _project(
    rng: np.random.Generator,
    side: Side,
    view: View,
    outline: Outline,
    tone: Tone,
    tissue: NDArray[np.float32],
    findings: tuple[Finding, ...],
) -> Mammogram:
    """Render one view; drawn with the chest wall on the left, the right breast mirrored at the end."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    along = ((rows - outline.centre(view)) / outline.half).astype(np.float32)
    radius = (columns / outline.reach).astype(np.float32) ** 2 + along**2
    breast = radius < 1
    # Seen from above the volume is summed over upper-lower, from the side over outer-inner.
    coarse = tissue.sum(axis=0 if view == "CC" else 1) / 3
    texture = _enlarge(coarse) + 0.35 * _enlarge(_noise(rng, 32, 22)) - 0.9 * radius
    threshold = np.quantile(texture[breast][::7], 1 - tone.share)
    fibroglandular = 1 / (1 + np.exp(-6 * (texture - threshold)))
    strands = _enlarge(_noise(rng, 128, 86))
    pixels = tone.fat + 0.01 * strands + fibroglandular * (tone.gland + 0.015 * strands)
    if view == "MLO":
        edge = 1 - columns / outline.muscle - rows / outline.muscle_height
        pixels += (0.62 - pixels) * (np.clip(edge * 12, 0, 1) * 0.8).astype(np.float32)
    pixels *= np.sqrt(np.clip((1 - radius) * 6, 0, 1))  # compressed breast thins out at the skin

    interior = (radius < 0.8) & ~outline.in_muscle(columns, rows) if view == "MLO" else radius < 0.8
    lesions = []
    for finding in findings:
        place = outline.place(finding, view)
        box = add_finding(pixels, finding, place, interior, VIEWS.index(view))
        if side == "R":
            left, top, right, bottom = box
            box = (WIDTH - right, top, WIDTH - left, bottom)
        lesions.append(Lesion(finding.kind, box))
    pixels = np.where(breast, np.clip(pixels, 0, 1), 0).astype(np.float32)
    if side == "R":
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    return Mammogram(side, view, pixels, tuple(lesions))


def _noise(rng: np.random.Generator, height: int, width: int) -> Pixels:
    return rng.standard_normal((height, width), dtype=np.float32)


def _enlarge(grid: Pixels) -> Pixels:
    """Smooth interpolation of a small grid to the image size: two matrix products."""
    tall: Pixels = _weights(grid.shape[0], HEIGHT) @ grid
    return tall @ _weights(grid.shape[1], WIDTH).T


@cache
def _weights(few: int, many: int) -> Pixels:
    """Gaussian interpolation weights (many, few) of unit norm, so that noise keeps its variance."""
    step = np.arange(many)[:, None] * (few - 1) / (many - 1) - np.arange(few)
    weights = np.exp(-0.5 * (step / 0.6) ** 2)
    norm = np.linalg.norm(weights, axis=1, keepdims=True)
    unit: Pixels = (weights / norm).astype(np.float32)
    return unit
