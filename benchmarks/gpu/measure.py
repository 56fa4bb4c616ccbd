"""Time, memory and arithmetic of a step on a GPU."""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from benchmarks.gpu.workload import PATCH, Size
from mama.data.pairs import Batch
from mama.towers.tissue import tissue_patches

# bf16 peaks without sparsity (NVIDIA's data sheets, SXM), FLOP a second, by part of the name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A40": 150e12}


def wait(device: torch.device) -> None:
    """Wait for the device's work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_seconds(
    step: Callable[[], object], device: torch.device, runs: int, warm: int = 3
) -> list[float]:
    """Return the wall time of each step after a warm-up."""
    for _ in range(warm):
        step()
    seconds = []
    for _ in range(runs):
        wait(device)
        begin = time.perf_counter()
        step()
        wait(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


def measured(step: Callable[[], object], device: torch.device, runs: int) -> dict[str, Any]:
    """Return the median seconds of a step and the GPU's peak memory, or that it does not fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        seconds = step_seconds(step, device, runs)
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    figures = {"seconds": round(statistics.median(seconds), 4), "slowest": round(max(seconds), 4)}
    if device.type == "cuda":
        figures["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 1)
    return figures


def useful_flops(size: Size, batch: Batch, tokens: int, *, tissue: bool) -> float:
    """Return the floating-point operations that a step's matrix products cannot do without.

    Image tower: forward and backward of the kept tokens. Text tower: forward of `tokens` words and
    the gradient of its activations; its weights are frozen. Recomputation counts as nothing.
    """
    depth, width = size.image_layers, size.image_width
    grid = (size.pixels // PATCH, size.pixels // PATCH)
    image = 0.0
    for views in (batch.first, batch.second):
        kept = tissue_patches(views, grid) if tissue else torch.ones(len(views), grid[0] * grid[1])
        for length in (kept.sum(1) + 5).tolist():
            image += depth * (24 * length * width**2 + 4 * length**2 * width)
    text = size.text_layers * 24 * tokens * size.text_width**2
    return 3 * image + 2 * text


def peak_flops(device: torch.device) -> dict[str, float]:
    """Return the card's bf16 peak by its data sheet, if known, and by a large matrix product."""
    if device.type != "cuda":
        return {}
    matrix = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    seconds = statistics.median(step_seconds(lambda: matrix @ matrix, device, 10))
    peaks = {"measured": 2 * 8192**3 / seconds}
    name = torch.cuda.get_device_name(device)
    with suppress(StopIteration):
        peaks["data_sheet"] = next(peak for card, peak in PEAKS.items() if card in name)
    return peaks
