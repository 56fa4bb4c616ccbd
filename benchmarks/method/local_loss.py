"""Local loss, forward and backward, compared with the published implementation's loop over reports.

    python -m benchmarks.method.local_loss [--runs 5]

36 random images of 1369 patches, 36 reports of 10 to 14 sentences, width 512; both sides get the
same embeddings, normalise them and compute the same value. Times are medians of interleaved runs in
this process, with one thread and with the default number; in the last line `speedup_fp32` and
`speedup_bf16` (bf16 scores) are plain / ours in CPU time with one thread, `wall_…` the same in wall
time, `…_default_threads` with the default number.

`memory_ratio` is ours / plain in fp32: the peak resident memory of each side in a separate process,
minus the memory resident after creating the inputs and minus the size of the gradients, which both
sides must return. `memory_ratio_with_gradients` includes these.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import last_line
from mama.losses import local_alignment_loss  # before torch: mama sets how idle threads wait


class Inputs(NamedTuple):
    """Leaves (N, P, C), (N, S, C), scalar; `counts` (N,) sentences per report without padding."""

    patches: Tensor
    sentences: Tensor
    log_scale: Tensor
    counts: Tensor


def make(pairs: int, patches: int, most: int, width: int) -> Inputs:
    torch.manual_seed(0)
    counts = torch.randint(most - 4, most + 1, (pairs,))
    return Inputs(
        torch.randn(pairs, patches, width).requires_grad_(),
        torch.randn(pairs, most, width).requires_grad_(),
        torch.tensor(2.66).requires_grad_(),
        counts,
    )


def plain(inputs: Inputs) -> Tensor:
    """Return the loss computed report by report, against all patches of all images."""
    patches = F.normalize(inputs.patches, dim=-1)
    t2i, i2t = [], []
    for vectors, count in zip(inputs.sentences, inputs.counts, strict=True):
        sentences = F.normalize(vectors[:count], dim=-1)
        cosines = torch.einsum("npc,sc->nps", patches, sentences)
        t2i.append(cosines.max(1).values.mean(1))
        i2t.append(cosines.max(2).values.mean(1))
    scale, target = inputs.log_scale.exp(), torch.arange(len(patches), device=patches.device)
    logits = [scale * torch.stack(t2i), scale * torch.stack(i2t)]
    return sum(F.cross_entropy(x, target) + F.cross_entropy(x.T, target) for x in logits)


def ours(inputs: Inputs, scores: torch.dtype | None = None) -> Tensor:
    counts = inputs.counts.to(inputs.sentences.device)
    mask = torch.arange(inputs.sentences.shape[1], device=counts.device) < counts[:, None]
    return local_alignment_loss(
        inputs.patches, inputs.sentences, mask, inputs.log_scale, score_dtype=scores
    )


def ours_bf16(inputs: Inputs) -> Tensor:
    return ours(inputs, torch.bfloat16)


SIDES: dict[str, Callable[[Inputs], Tensor]] = {"plain": plain, "fp32": ours, "bf16": ours_bf16}


def step(side: str, inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the value and the gradients."""
    value = SIDES[side](inputs)
    return value.detach(), *torch.autograd.grad(value, inputs[:3])


def timed(inputs: Inputs, runs: int) -> dict[str, tuple[float, float]]:
    """Return median CPU and wall seconds of each side."""
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for run in range(runs + 1):
        for side in SIDES:
            cpu, wall = time.process_time(), time.perf_counter()
            step(side, inputs)
            if run > 0:  # the first is a warm-up
                used = time.process_time() - cpu, time.perf_counter() - wall
                seconds[side].append(used)
    return {
        side: (statistics.median(c for c, _ in used), statistics.median(w for _, w in used))
        for side, used in seconds.items()
    }


def resident(key: str) -> float:
    """Return MiB of this process: `VmRSS` now, `VmHWM` at its peak (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def print_memory(side: str, inputs: Inputs) -> None:
    """Print MiB beyond the inputs, and MiB of the gradients."""
    step(side, make(2, 8, 5, 16))  # loads code and libraries
    before = resident("VmRSS")
    _, *gradients = step(side, inputs)
    print(resident("VmHWM") - before, sum(g.nbytes for g in gradients) / 2**20)


def memory(side: str) -> tuple[float, float]:
    """Return peak MiB beyond the inputs in a separate process, without and with gradients."""
    command = [sys.executable, "-m", "benchmarks.method.local_loss", "--memory-of", side]
    answer = subprocess.run(
        command, check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout
    peak, gradients = map(float, answer.split())
    return peak - gradients, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory-of", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    inputs = make(36, 1369, 14, 512)
    if options.memory_of:
        return print_memory(options.memory_of, inputs)

    result: dict[str, float] = {}
    default = torch.get_num_threads()
    for suffix, threads in (("", 1), ("_default_threads", default)):
        torch.set_num_threads(threads)
        seconds = timed(inputs, options.runs)
        for side, (cpu, wall) in seconds.items():
            print(f"{threads} threads, {side}: {cpu:.2f} CPU-s, {wall:.2f} s")
            if side != "plain":
                result[f"speedup_{side}{suffix}"] = round(seconds["plain"][0] / cpu, 2)
                result[f"wall_speedup_{side}{suffix}"] = round(seconds["plain"][1] / wall, 2)
    peaks = {side: memory(side) for side in SIDES}
    for side, (without, with_gradients) in peaks.items():
        print(f"{side}: {without:.0f} MiB, with gradients {with_gradients:.0f} MiB")
    result["memory_ratio"] = round(peaks["fp32"][0] / peaks["plain"][0], 3)
    result["memory_ratio_bf16"] = round(peaks["bf16"][0] / peaks["plain"][0], 3)
    result["memory_ratio_with_gradients"] = round(peaks["fp32"][1] / peaks["plain"][1], 3)
    last_line(result)


if __name__ == "__main__":
    main()
