"""Training pairs a CPU second: from the cache, and by the published pipeline from JPEG files.

    python -m benchmarks.data.pairs [--size 518 364] [--original 3328 2560] [--batches 6]

Ours reads, places and augments the two views of a study as the trainer does, by the paper's
augmentation and by the quickstart's. The published form decodes a JPEG file of the whole film with
PIL as RGB and applies torchvision's transforms; it is measured on files of the cache's size
(`jpeg_small`) and on those of a detector's size (`jpeg_original`), as published sets have them.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import last_line
from benchmarks.data.films import draw
from benchmarks.method.plain_pairs import PlainPairs
from benchmarks.method.workload import (
    PAPER,
    QUICKSTART,
    TEXT,
    VIT_SMALL,
    experiment,
    make_dataset,
    make_tokeniser,
)
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs

STUDIES = 8


def rate(make: Any, batches: int) -> float:
    """Return pairs a CPU second of `make(step)`, after one step that is not counted."""
    make(0)
    begin = time.process_time()
    for step in range(1, batches + 1):
        make(step)
    return STUDIES * batches / (time.process_time() - begin)


def ours(folder: Path, size: tuple[int, int], augment: dict[str, Any], batches: int) -> float:
    """Return the rate of the project's pairs; `size` is the height and width of the input."""
    made = experiment({"tower": VIT_SMALL, "size": size}, STUDIES, augment=augment)
    pairs = StudyPairs(Dataset(folder), made, "site")
    return rate(pairs.batch, batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(518, 364))
    parser.add_argument("--original", type=int, nargs=2, default=(3328, 2560))
    parser.add_argument("--batches", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder, STUDIES, max(options.size))
        make_tokeniser(folder / TEXT)
        size = tuple(options.size)
        result: dict[str, Any] = {
            "ours_paper": ours(folder, size, PAPER, options.batches),
            "ours_quickstart": ours(folder, size, QUICKSTART, options.batches),
        }
        plain = PlainPairs(folder, *size)
        result["jpeg_small"] = rate(lambda step: plain.batch(STUDIES), 1)
        film = Image.fromarray((draw(0, tuple(options.original)) >> 4).astype(np.uint8))
        for path in (folder / "jpeg").glob("*.jpg"):
            film.save(path, quality=95)
        result["jpeg_original"] = rate(lambda step: plain.batch(STUDIES), 1)
    result = {key: round(value, 2) for key, value in result.items()}
    for key in ("jpeg_small", "jpeg_original"):
        result[f"over_{key}"] = round(result["ours_paper"] / result[key], 1)
    last_line(result)


if __name__ == "__main__":
    main()
