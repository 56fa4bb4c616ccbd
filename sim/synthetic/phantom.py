"""Mammography phantoms: four consistent views of a patient, with ground truth.

A breast is a small volume of tissue with a few findings; a view is a projection of that volume. CC
projects from above and shows depth and the outer-inner axis, MLO shows depth and the upper-lower
axis, so that density, shape and findings are consistent between views by construction.

Breasts with and without a suspicious finding contain masses and specks equally often, apart from
empty ones: benign findings are as bright, so a model must recognise shapes (see
`sim.synthetic.lesions`).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sim.synthetic.lesions import Finding, Kind, Lesion, Pixels, add_finding

Side = Literal["L", "R"]
View = Literal["CC", "MLO"]
Density = Literal["A", "B", "C", "D"]

HEIGHT, WIDTH = 384, 256
SIDES: tuple[Side, ...] = ("L", "R")
VIEWS: tuple[View, ...] = ("CC", "MLO")

# Fibroglandular share of the breast by BI-RADS category, without overlap here.
GLAND = {"A": (0.04, 0.12), "B": (0.20, 0.32), "C": (0.44, 0.60), "D": (0.74, 0.92)}
# Share of breasts without a suspicious finding that have no finding at all.
CLEAR = 0.1
# Share of breasts with both a mass and specks.
BOTH = 0.2


@dataclass(frozen=True)
class Mammogram:
    """Mammogram, float32 (HEIGHT, WIDTH): 0 is air, about 0.2 is fat, 1 is the maximum."""

    laterality: Side
    view: View
    pixels: Pixels
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class Phantom:
    """Exam of a patient: ground truth and four images (L CC, L MLO, R CC, R MLO)."""

    density: Density
    findings: dict[Side, tuple[Finding, ...]]
    images: tuple[Mammogram, ...]


def make_phantom(
    rng: np.random.Generator, density: Density, suspicious: dict[Side, bool]
) -> Phantom:
    """Draw a patient of the given density, with a suspicious finding in the given breasts."""
    outline = Outline.draw(rng)
    tone = Tone.draw(rng, density)
    findings = {side: _draw_findings(rng, suspicious[side], outline) for side in SIDES}
    images: list[Mammogram] = []
    for side in SIDES:
        tissue = rng.standard_normal((9, 9, 7), dtype=np.float32)  # upper-lower, outer-inner, depth
        for view in VIEWS:
            images.append(_project(rng, (side, view), outline, tone, tissue, findings[side]))
    return Phantom(density, findings, tuple(images))


@dataclass(frozen=True)
class Outline:
    """Common shape of both breasts, in pixels.

    `reach` is the distance from chest wall to nipple and `half` half the height on CC. On MLO the
    breast is lower, and the pectoral muscle, `muscle` wide and `muscle_height` high, fills the
    corner.
    """

    reach: float
    half: float
    muscle: float
    muscle_height: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Outline":
        """Draw the outline of one patient."""
        half = rng.uniform(140, 175)
        return cls(
            reach=half * rng.uniform(1.0, 1.28),
            half=half,
            muscle=rng.uniform(60, 95),
            muscle_height=rng.uniform(150, 220),
        )

    def centre(self, view: View) -> float:
        """Return the row of the nipple."""
        return HEIGHT / 2 + (12 if view == "MLO" else 0)

    def place(self, finding: Finding, view: View) -> tuple[float, float]:
        """Return column and row of a finding in an image whose chest wall is on the left."""
        along = finding.outer if view == "CC" else finding.upper
        return finding.depth * self.reach, self.centre(view) - along * self.half

    def in_muscle(self, column: Any, row: Any) -> Any:
        """Return True for places in or near the pectoral muscle on MLO."""
        return column / self.muscle + row / self.muscle_height < 1.25


@dataclass(frozen=True)
class Tone:
    """Tissue of a patient: fibroglandular share, brightness of fat, and additional brightness."""

    share: float
    fat: float
    gland: float

    @classmethod
    def draw(cls, rng: np.random.Generator, density: Density) -> "Tone":
        """Draw the tissue of one patient of this density."""
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
    suspect = "mass" if mass and (not specks or rng.random() < 0.5) else "specks"
    kinds: list[Kind] = []
    if mass:
        kinds.append("spiculated" if suspicious and suspect == "mass" else "smooth")
    if specks:
        kinds.append("cluster" if suspicious and suspect == "specks" else "scattered")
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
    name: tuple[Side, View],
    outline: Outline,
    tone: Tone,
    tissue: NDArray[np.float32],
    findings: tuple[Finding, ...],
) -> Mammogram:
    """Render one view with the chest wall on the left; the right breast is mirrored at the end."""
    side, view = name
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    along = ((rows - outline.centre(view)) / outline.half).astype(np.float32)
    radius = (columns / outline.reach).astype(np.float32) ** 2 + along**2
    breast = radius < 1
    # The view from above sums the volume over upper-lower, the view from the side over outer-inner.
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
    """Interpolate a small grid smoothly to the image size, as two matrix products."""
    tall: Pixels = _weights(grid.shape[0], HEIGHT) @ grid
    return tall @ _weights(grid.shape[1], WIDTH).T


@cache
def _weights(few: int, many: int) -> Pixels:
    """Return Gaussian interpolation weights (many, few) of unit norm, which preserve variance."""
    step = np.arange(many)[:, None] * (few - 1) / (many - 1) - np.arange(few)
    weights = np.exp(-0.5 * (step / 0.6) ** 2)
    norm = np.linalg.norm(weights, axis=1, keepdims=True)
    unit: Pixels = (weights / norm).astype(np.float32)
    return unit
