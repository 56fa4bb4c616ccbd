"""Tokens of real films that are kept, in evaluation and with the training augmentation.

    python -m benchmarks.method.film_tokens DATA [--draws 4]

DATA is the mini-MIAS folder; films are cropped as by ingest at 518 px in memory, without writing
files. In the last line `film_keep` is the mean share of the 37 x 37 patches that contain tissue at
native aspect ratio, `…_square` stretched over the canvas as in the paper, `…_trained` with the
default augmentation and `…_crops` also with the paper's crops (at least a tenth of the canvas,
enlarged to it); each with its 5 % and 95 % quantiles. `tissue_kept` is the smallest share of a
film's tissue pixels in kept patches. Of the lesions whose centre and radius are in the table,
`centres_kept` counts centres and `boxes_kept` whole bounding boxes (within the film's crop) in kept
patches; `lesion_pixels_kept` is the smallest share of a lesion's pixels in kept patches.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.common import last_line
from mama.config import AugmentConfig
from mama.data import tissue
from mama.data.augment import augment, normalise, on_canvas
from mama.system.seeds import numpy_generator
from mama.towers.tissue import tissue_patches

SIZE, GRID = 518, (37, 37)


class Lesion(NamedTuple):
    """Lesion: centre (x, y) and radius in pixels of the film, origin at the top left."""

    x: float
    y: float
    radius: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    options = parser.parse_args()
    last_line(film_figures(options.data, options.draws))


def film_figures(data: Path, draws: int = 4) -> dict[str, Any]:
    """Return all metrics of a mini-MIAS folder, with `draws` augmentations per film."""
    lesions = lesions_of(data / "labels", 1024)
    plain, crops = AugmentConfig(), AugmentConfig(crop=0.1)
    shares: dict[str, list[float]] = {"": [], "_square": [], "_trained": [], "_crops": []}
    tissue_kept, found = [], []
    for path in sorted((data / "png").glob("mdb*.png")):
        film = np.asarray(Image.open(path), np.float32) / 255
        breast = tissue.prepare(film, SIZE).pixels
        canvas = on_canvas(breast, (SIZE, SIZE), "native")
        kept = patches(canvas)
        shares[""].append(kept.mean())
        shares["_square"].append(patches(on_canvas(breast, (SIZE, SIZE), "square")).mean())
        for name, config in (("_trained", plain), ("_crops", crops)):
            for draw in range(draws):
                view = augment(canvas, config, numpy_generator(0, path.stem, draw))
                shares[name].append(patches(view).mean())
        pixels = np.kron(kept, np.ones((SIZE // GRID[0], SIZE // GRID[1]), bool))
        tissue_kept.append(pixels[canvas > 0].mean())
        top = (SIZE - breast.shape[0]) // 2
        found += [
            looked_up(on_crop(film, lesion), pixels, top) for lesion in lesions.get(path.stem, [])
        ]
    result: dict[str, Any] = {}
    for name, values in shares.items():
        low, high = np.quantile(values, [0.05, 0.95])
        result[f"film_keep{name}"] = [round(float(v), 3) for v in (np.mean(values), low, high)]
    centres, boxes, parts = zip(*found, strict=True)
    return result | {
        "films": len(tissue_kept),
        "tissue_kept": round(float(min(tissue_kept)), 4),
        "lesions": len(found),
        "centres_kept": sum(centres),
        "boxes_kept": sum(boxes),
        "lesion_pixels_kept": round(min(parts), 3),
    }


def patches(canvas: np.ndarray) -> np.ndarray:
    """Return the patches of a canvas that contain tissue, (37, 37) bool."""
    return tissue_patches(normalise([canvas]), GRID).reshape(GRID).numpy()


def lesions_of(table: Path, height: int) -> dict[str, list[Lesion]]:
    """Return the lesions with a location by film; the table's origin is at the bottom left."""
    lesions: dict[str, list[Lesion]] = {}
    for row in table.read_text(encoding="utf-8").splitlines():
        cells = row.split()
        if len(cells) == 7:
            x, y, radius = map(float, cells[4:])
            lesions.setdefault(cells[0], []).append(Lesion(x, height - y, radius))
    return lesions


def on_crop(film: np.ndarray, lesion: Lesion) -> Lesion:
    """Return a lesion after ingest's crop, scaling and mirroring (as in `tissue.prepare`)."""
    breast = tissue.prepare(film, SIZE)
    top, left, bottom, right = breast.box
    height, width = breast.pixels.shape
    scale = width / (right - left), height / (bottom - top)
    x, y = (lesion.x - left) * scale[0], (lesion.y - top) * scale[1]
    if breast.mirrored:
        x = width - x
    return Lesion(x, y, lesion.radius * max(scale))


def looked_up(lesion: Lesion, kept: np.ndarray, top: int) -> tuple[bool, bool, float]:
    """Return if a lesion's centre and its box are in kept pixels (H, W), and its disc's share."""
    y, x = np.mgrid[: kept.shape[0], : kept.shape[1]] + 0.5
    centre = lesion.y + top
    disc = (x - lesion.x) ** 2 + (y - centre) ** 2 <= lesion.radius**2
    box = np.maximum(abs(x - lesion.x), abs(y - centre)) <= lesion.radius
    at = (
        int(np.clip(centre, 0, kept.shape[0] - 1)),
        int(np.clip(lesion.x, 0, kept.shape[1] - 1)),
    )
    return bool(kept[at]), bool(kept[box].all()), float(kept[disc].mean())


if __name__ == "__main__":
    main()
