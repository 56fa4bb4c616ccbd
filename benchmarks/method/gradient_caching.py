"""Gradient caching, 8 of 64 studies at a time, compared with one backward pass through the batch.

    python -m benchmarks.method.gradient_caching [--runs 3]

The whole method with its four terms: ViT-Ti/16 at 224 px on all patches, a 4-layer GPT-2, no
dropout, one thread. `max_gradient_difference`, in float64: the largest |difference| of any trained
tensor relative to that tensor's largest entry. The ratios are caching / plain in float32:
`cpu_ratio` and `wall_ratio` of medians of interleaved runs, `memory_ratio` of peak resident memory
beyond that of model and batch, each side in a separate process.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.common import last_line
from benchmarks.method.memory import growth, in_child
from benchmarks.method.workload import experiment, make_dataset, make_text_model, table
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.model import MaMA, build_model
from mama.training.gradient import add_gradient
from mama.training.objective import TERMS

STUDIES = 64
CHUNKS = {"plain": None, "cached": 8}
EXPERIMENT = experiment(
    {"tower": "vit_tiny_patch16_224", "size": [224, 224], "tokens": "all"}, STUDIES
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder, STUDIES, 224)
        make_text_model(folder)
        difference = in_child(max_difference, folder)
        mib = {side: in_child(memory, folder, side) for side in CHUNKS}
        cpu, wall = in_child(seconds, folder, options.runs)
    for side in CHUNKS:
        print(f"{side}: {cpu[side]:.1f} CPU-s, {wall[side]:.1f} s, {mib[side]:.0f} MiB")
    last_line(
        {
            "max_gradient_difference": difference,
            "cpu_ratio": round(cpu["cached"] / cpu["plain"], 3),
            "wall_ratio": round(wall["cached"] / wall["plain"], 3),
            "memory_ratio": round(mib["cached"] / mib["plain"], 3),
        }
    )


def prepared(folder: Path) -> tuple[MaMA, Batch]:
    torch.set_num_threads(1)
    model = build_model(EXPERIMENT, table(folder)).train()
    with torch.no_grad():  # while one adapter matrix is zero, the other has no gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model, StudyPairs(Dataset(folder), EXPERIMENT, "site").batch(0)


def step(model: MaMA, batch: Batch, side: str) -> None:
    """Compute the batch's gradient in the parameters' `grad`."""
    model.zero_grad()
    add_gradient(model, batch, EXPERIMENT.loss, TERMS, chunk=CHUNKS[side], autocast=nullcontext)


def max_difference(folder: Path) -> float:
    model, batch = prepared(folder)
    model.double()
    batch = Batch(
        batch.first.double(), batch.second.double(), batch.reports, batch.second_described
    )
    gradients = []
    for side in CHUNKS:
        step(model, batch, side)
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    plain, cached = gradients
    return max(
        float((cached[name] - grad).abs().max() / grad.abs().max()) for name, grad in plain.items()
    )


def memory(folder: Path, side: str) -> float:
    model, batch = prepared(folder)
    step(model, batch[:2], "plain")  # loads code and allocates gradients
    return growth(partial(step, model, batch, side))


def seconds(folder: Path, runs: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return median CPU and wall seconds of a step of either side."""
    model, batch = prepared(folder)
    step(model, batch[:2], "plain")
    cpu: dict[str, list[float]] = {side: [] for side in CHUNKS}
    wall: dict[str, list[float]] = {side: [] for side in CHUNKS}
    for _ in range(runs):
        for side in CHUNKS:
            began = time.process_time(), time.perf_counter()
            step(model, batch, side)
            cpu[side].append(time.process_time() - began[0])
            wall[side].append(time.perf_counter() - began[1])
    medians = [{side: statistics.median(v) for side, v in kind.items()} for kind in (cpu, wall)]
    return medians[0], medians[1]


if __name__ == "__main__":
    main()
