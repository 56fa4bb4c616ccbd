"""Gradient caching against one backward pass through the whole batch: 64 studies, 8 at a time.

    python benchmarks/gradient_caching.py [--runs 3]

The whole method with its four terms; ViT-Ti/16 at 224 px on every patch, a GPT-2 of 4 layers, no dropout, one
thread. `max_gradient_difference`, float64: the greatest |difference| of any trained tensor over that tensor's largest
entry. The ratios are caching / plain in float32: `cpu_ratio` and `wall_ratio` of medians of interleaved runs,
`memory_ratio` of peak resident memory beyond that of model and batch, each side in a process of its own.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mama  # noqa: F401  before torch: it sets how idle threads wait

# isort: split
import torch
from common import last_line
from memory import growth, in_child
from workload import experiment, make_dataset, make_text_model, table

from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.gradient import add_gradient
from mama.model import MaMA, build_model
from mama.objective import TERMS

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
    with torch.no_grad():  # from the start at zero an adapter's other half has no gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model, StudyPairs(Dataset(folder), EXPERIMENT, "site").batch(0)


def step(model: MaMA, batch: Batch, side: str) -> None:
    """Leave the batch's gradient in the parameters."""
    model.zero_grad()
    add_gradient(model, batch, EXPERIMENT.loss, TERMS, chunk=CHUNKS[side], autocast=nullcontext)


def max_difference(folder: Path) -> float:
    model, batch = prepared(folder)
    model.double()
    batch = Batch(batch.first.double(), batch.second.double(), batch.reports, batch.second_told)
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
    step(model, batch[:2], "plain")  # code and gradients come into memory
    return growth(partial(step, model, batch, side))


def seconds(folder: Path, runs: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median CPU and wall seconds of a step of either side."""
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
