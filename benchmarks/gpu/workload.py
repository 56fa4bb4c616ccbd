"""Paper's step at its real size, with random weights and drawn images.

ViT-B/14 at 518 px and a GPT-2 of BioMedLM's sizes (2.7 billion parameters) with LoRA, made on the
device, so that nothing is downloaded and nothing of 10 GB is written.
"""

import argparse
from collections.abc import Callable, Generator
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GPT2Config

from benchmarks.common import last_line
from benchmarks.method.workload import TEXT, experiment, make_tokeniser, report
from mama.config import Experiment
from mama.data.pairs import Batch
from mama.model import MaMA, build_model
from mama.towers.tissue import tissue_patches

PATCH = 14
KEEP = 0.46  # share of the patches that real films keep (docs/benchmarks.md)


class Size(NamedTuple):
    """Sizes of towers and batch: the paper's, or small ones for machines without a GPU."""

    tower: str
    pixels: int
    studies: int
    image_width: int
    image_layers: int
    image_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    vocabulary: int


PAPER = Size("vit_base_patch14_reg4_dinov2", 518, 36, 768, 12, 12, 2560, 32, 20, 28896)
SMALL = Size("vit_small_patch14_reg4_dinov2", 140, 4, 384, 12, 6, 64, 2, 2, 512)


def paper_experiment(size: Size, **sections: dict[str, Any]) -> Experiment:
    """Return the paper's experiment at these sizes; all terms take part from the start."""
    image = {"tower": size.tower, "size": [size.pixels] * 2}
    image |= sections.pop("image", {})
    return experiment(image, size.studies, **sections)


def make_text_folder(folder: Path, size: Size) -> dict[str, Path]:
    """Write configuration and tokeniser of the text tower; return the table of base models."""
    place = folder / TEXT
    make_tokeniser(place)
    GPT2Config(
        vocab_size=size.vocabulary,
        n_layer=size.text_layers,
        n_embd=size.text_width,
        n_head=size.text_heads,
        n_positions=1024,
        bos_token_id=0,
        eos_token_id=0,
    ).save_pretrained(place)
    return {TEXT: place}


def make_model(made: Experiment, models: dict[str, Path], device: torch.device) -> MaMA:
    """Build the model with random weights on the device."""
    with device:
        return build_model(made, models, from_weights=False).to(device)


def run(figures: Callable[[Size, Path, torch.device], dict[str, Any]], about: str | None) -> None:
    """Print the figures of a benchmark at the paper's size, or a small one with --quick.

    Args:
        figures: of the size, a temporary folder and the device.
        about: text of --help.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory() as name:
        last_line(figures(SMALL if options.quick else PAPER, Path(name), device))


class DrawnPairs:
    """Batches that were drawn before the measurement, instead of `StudyPairs`."""

    stream = "drawn"

    def __init__(self, size: Size, studies: int, keep: float = KEEP, different: int = 4):
        self.batch_size = studies
        self.made = [_batch(size, studies, keep, number) for number in range(different)]
        self._ready: dict[int, Batch] = {}

    def fresh(self) -> "DrawnPairs":
        """Return the same batches for another trainer."""
        other = copy(self)
        other._ready = {}
        return other

    def batches(
        self,
        steps: range,
        *,
        share: Callable[[int], slice],
        workers: int,
        ready: Callable[[Batch], Batch],
    ) -> Generator[Batch, None, None]:
        """Yield the drawn batches in turn."""
        for step in steps:
            place = step % len(self.made)
            if place not in self._ready:
                self._ready[place] = ready(self.made[place])
            yield self._ready[place]


def _batch(size: Size, studies: int, keep: float, number: int) -> Batch:
    random = np.random.default_rng(number)
    views = [breasts(size.pixels, studies, keep, random) for _ in range(2)]
    reports = [report(random) for _ in range(studies)]
    return Batch(*views, reports, torch.ones(studies, dtype=torch.bool))


def breasts(pixels: int, count: int, keep: float, random: np.random.Generator) -> torch.Tensor:
    """Return images (count, 1, pixels, pixels) of noise in half ellipses on background -1.

    Each keeps about the share `keep` of its patches, and no two the same number.
    """
    place = (np.arange(pixels) + 0.5) / pixels
    images = np.full((count, 1, pixels, pixels), -1, np.float32)
    for image in images:
        wanted = keep * random.uniform(0.75, 1.25)
        height = random.uniform(0.85, 1.0)
        width = min(1.2, wanted / height * 4 / np.pi)
        inside = ((place[:, None] - 0.5) / height * 2) ** 2 + (place / width) ** 2 < 1
        image[0][inside] = random.uniform(-0.9, 1, int(inside.sum()))
    return torch.from_numpy(images)


def kept(images: torch.Tensor) -> float:
    """Return the mean share of patches with tissue."""
    grid = (images.shape[-2] // PATCH, images.shape[-1] // PATCH)
    return float(tissue_patches(images, grid).float().mean())
