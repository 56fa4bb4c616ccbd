"""Local loss on a GPU at the paper's size, compared with the published loop over reports.

    python -m benchmarks.gpu.local [--quick]

Forward and backward of 36 images x 1369 patches x 36 reports, 512 wide, as in
benchmarks/method/local_loss.py. Memory is the peak beyond the inputs, gradients included.
"""

import argparse
from typing import Any

import torch

from benchmarks.common import last_line
from benchmarks.gpu.measure import measured
from benchmarks.method.local_loss import SIDES, Inputs, make, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    last_line(figures(device, quick=parser.parse_args().quick))


def figures(device: torch.device, *, quick: bool) -> dict[str, Any]:
    """Return the figures of each side, and the ratios of the published loop's to them."""
    drawn = make(4, 30, 6, 16) if quick else make(36, 1369, 14, 512)
    leaves = [part.detach().to(device).requires_grad_() for part in drawn[:3]]
    inputs = Inputs(*leaves, drawn.counts)
    held = sum(part.nbytes for part in leaves) / 2**30
    result: dict[str, Any] = {}
    for side in SIDES:
        result[side] = measured(lambda side=side: step(side, inputs), device, 10)
        if "peak_gib" in result[side]:
            result[side]["peak_gib"] = round(result[side]["peak_gib"] - held, 2)
    for side in ("fp32", "bf16"):
        result[side]["speedup"] = round(result["plain"]["seconds"] / result[side]["seconds"], 1)
    return result


if __name__ == "__main__":
    main()
