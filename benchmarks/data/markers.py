"""Crop of films with markers, tape or a white frame brighter than the tissue.

    python -m benchmarks.data.markers [--films 12] [--data FOLDER]

On each film the breast is searched as ingest does, without and with an added object that is 1 to 10
times as bright as the brightest tissue; `iou` compares the two masks, without the pixels that the
object covers. `--data` names a folder of mini-MIAS films instead of drawn ones.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import last_line
from benchmarks.data.films import draw
from mama.data.dicom.pixels import read_pixels
from mama.data.dicom.shrink import fit, resize
from mama.data.tissue import SEARCH_SIDE, breast_mask

TIMES = (1, 1.5, 2, 3, 5, 10)
GOAL = 0.95


def drawn(number: int) -> Iterator[np.ndarray]:
    """Yield drawn mammograms as display values."""
    for seed in range(number):
        yield draw(seed, (1024, 768)).astype(np.float32) / 4095


def films(folder: Path, number: int) -> Iterator[np.ndarray]:
    """Yield every n-th film of a folder as display values, `number` or a few more."""
    paths = sorted((folder / "png").glob("*.png"))
    for path in paths[:: max(1, len(paths) // number)]:
        yield read_pixels(path)


def objects(shape: tuple[int, int], right: bool) -> dict[str, np.ndarray]:
    """Return bool masks of objects at the side away from the chest wall, by name.

    A lead letter, a tape along the edge, and a frame around the picture.
    """
    height, width = shape
    marks = {name: np.zeros(shape, bool) for name in ("marker", "tape", "frame")}
    marks["marker"][height // 20 : height // 8, -width // 6 : -width // 20] = True
    marks["tape"][:, -width // 25 :] = True
    edge = max(1, height // 60)
    frame = marks["frame"]
    frame[:edge] = frame[-edge:] = frame[:, :edge] = frame[:, -edge:] = True
    return {name: mark[:, ::-1] if right else mark for name, mark in marks.items()}


def mask_of(small: np.ndarray, top: float) -> np.ndarray:
    """Return the breast in a picture of search size, shown from 0 to `top`."""
    return breast_mask((small / top).astype(np.float32))


def overlaps(film: np.ndarray) -> dict[tuple[str, float], float]:
    """Return the IoU by object and brightness."""
    size = fit(film.shape, SEARCH_SIDE)
    small = resize(film, size)
    plain = mask_of(small, float(film.max()))
    brightest = float(np.percentile(small[plain], 99.5)) if plain.any() else 1.0
    half = plain.shape[1] // 2
    right = bool(plain[:, half:].sum() > plain[:, :half].sum())
    result = {}
    for name, mark in objects(film.shape, right).items():
        covered = resize(mark.astype(np.float32), size)
        rest, free = resize(np.where(mark, 0, film).astype(np.float32), size), covered == 0
        for times in TIMES:
            light = times * brightest
            found = mask_of(rest + light * covered, max(float(film.max()), light))
            union = ((found | plain) & free).sum()
            result[name, times] = ((found & plain & free).sum() / union) if union else 1.0
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    measured = [
        overlaps(film)
        for film in (films(options.data, options.films) if options.data else drawn(options.films))
    ]
    result: dict[str, Any] = {"films": len(measured)}
    for name in ("marker", "tape", "frame"):
        for times in TIMES:
            values = np.array([one[name, times] for one in measured])
            result[f"{name}_{times}"] = {
                "mean": round(float(values.mean()), 3),
                "least": round(float(values.min()), 3),
                "at_goal": round(float((values >= GOAL).mean()), 3),
            }
            print(name, times, result[f"{name}_{times}"])
    every = np.array([value for one in measured for value in one.values()])
    result["at_goal"] = round(float((every >= GOAL).mean()), 3)
    last_line(result)


if __name__ == "__main__":
    main()
