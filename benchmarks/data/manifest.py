"""Manifest of an archive: its loading, and pairs drawn from it, against their number of images.

    python -m benchmarks.data.manifest [--images 400000] [--few 10000] [--many 1000000]

Loading is compared with JSON that is parsed as a whole into the same studies. Pairs are of small
pictures, so that time spent on the manifest shows. Each figure is of its own process: CPU seconds,
and resident memory beyond that of the libraries. Needs 2 GB of memory and 1 GB of disk.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import last_line
from benchmarks.method.memory import growth, in_child, resident
from benchmarks.method.workload import experiment
from mama.data.manifest import MANIFEST, Dataset, Manifest, write_manifest
from mama.data.pairs import StudyPairs
from mama.data.picture import write_picture
from mama.data.studies import Image, Labels, Sentence, Studies, Study

VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))
TEXTS = (
    "The breasts are heterogeneously dense.",
    "There is a mass of 12 mm in the upper outer quadrant of the left breast.",
    "There are no suspicious calcifications in the right breast.",
)
PIXELS, BATCH, STEPS = 32, 32, 40


class Cost(NamedTuple):
    """CPU seconds, and MiB of memory at the peak and afterwards, beyond those at the start."""

    seconds: float
    peak: float
    after: float


class OnePicture(Dataset):
    """Dataset with the same picture for all images."""

    def image_path(self, image: Image) -> Path:
        """Return the path of the picture."""
        return self.folder / "picture.npy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, images in (("images", 400_000), ("few", 10_000), ("many", 1_000_000)):
        parser.add_argument(f"--{name}", type=int, default=images)
    arguments = parser.parse_args()
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        for images in (arguments.images, arguments.few, arguments.many):
            in_child(make, Path(name) / str(images), images // len(VIEWS))
        folder = Path(name) / str(arguments.images)
        ours, plain = in_child(cost, load, folder), in_child(cost, parse, folder)
        size = (folder / MANIFEST).stat().st_size / 1e6
        print(f"{arguments.images} images, {size:.0f} MB: manifest {ours}")
        print(f"JSON parsed as a whole {plain}: {plain.seconds / ours.seconds:.0f} times the time")
        result |= {"megabytes": size, "manifest": ours._asdict(), "json": plain._asdict()}
        for images in (arguments.few, arguments.many):
            setup, each, memory = in_child(pairs, Path(name) / str(images))
            print(
                f"pairs of {images} images: set up in {setup:.2f} s, then {1e6 * each:.0f} us "
                f"and {memory:.1f} MiB more after {BATCH * STEPS} pairs"
            )
            result[f"pairs of {images}"] = {"setup": setup, "each": each, "more": memory}
    last_line(result)


def make(folder: Path, studies: int) -> None:
    """Write the manifest of an archive with four images a study and two studies a patient."""
    folder.mkdir()
    write_picture(folder / "picture.npy", np.full((PIXELS, PIXELS), 100, np.uint8))
    made = [_study(number) for number in range(studies)]
    write_manifest(
        folder, Manifest(adapter="drawn", key_check="", long_side=PIXELS, studies=Studies.of(made))
    )


def _study(number: int) -> Study:
    images = [
        Image(
            id=_id("image", number, *view),
            laterality=view[0],
            view=view[1],
            vendor="HOLOGIC, Inc.",
            height=518,
            width=300,
        )
        for view in VIEWS
    ]
    return Study(
        id=_id("study", number),
        patient=_id("patient", number // 2),
        split="test" if number // 2 % 5 == 0 else "train",
        images=tuple(images),
        sentences=tuple(Sentence(text=text, side="both", section="findings") for text in TEXTS),
        labels=Labels(density="C", suspicious={"L": True, "R": False}),
    )


def _id(*names: object) -> str:
    return hashlib.sha256(repr(names).encode()).hexdigest()[:20]


def cost(work: Callable[[Path], object], folder: Path) -> Cost:
    """Return the cost of work on a folder, whose result is kept."""
    before, kept = resident(), []
    start = time.process_time()
    peak = growth(lambda: kept.append(work(folder)))
    return Cost(time.process_time() - start, peak, resident() - before)


def load(folder: Path) -> Dataset:
    """Open the dataset."""
    return Dataset(folder)


def parse(folder: Path) -> list[Study]:
    """Parse all of the manifest's JSON."""
    values = json.loads((folder / MANIFEST).read_bytes())
    return [Study.model_validate(record) for record in values["records"]]


def pairs(folder: Path) -> tuple[float, float, float]:
    """Return CPU seconds of setting up pairs and of one pair, and MiB that many pairs add."""
    start = time.process_time()
    image = {"tower": "vit_tiny_patch16_224", "size": [PIXELS, PIXELS]}
    drawn = StudyPairs(OnePicture(folder), experiment(image, BATCH), "site")
    setup = time.process_time() - start
    drawn.batch(0)
    before, start = resident(), time.process_time()
    for step in range(1, 1 + STEPS):
        drawn.batch(step)
    each = (time.process_time() - start) / (BATCH * STEPS)
    return setup, each, resident() - before


if __name__ == "__main__":
    main()
