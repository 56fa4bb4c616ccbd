"""Image tower on tissue tokens, forward and backward, compared with timm's dense fp32 forward.

    python -m benchmarks.method.image_tower [--runs 5] [--images 4] [--keep 0.36] [--vitb]

DINOv2's ViT-S/14 with four registers at 518 px, random weights. The images are noise in half
ellipses at the chest wall, of several heights, each as wide as needed for the share `keep` of the
37 x 37 patches to contain tissue. All sides take turns in this process; times are medians. In the
last line `speedup_fp32` and `speedup_bf16` (bf16 autocast) are dense / ours in CPU time, `wall_…`
the same in wall time; `memory_ratio` and `memory_ratio_bf16` are ours / dense of the peak resident
memory of separate processes, including libraries and weights, `step_…` without the memory resident
before the step. `mask_cost` is ours / dense at 308 px with all tokens kept: the cost of masking
when nothing is masked. `vitb_…` are the same for ViT-B with half as many images. See film_tokens.py
for the tokens that real films keep.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import last_line
from mama.config import ImageTowerConfig  # before torch: mama sets how idle threads wait
from mama.towers.image import ImageTower
from mama.towers.tissue import tissue_patches

HEIGHTS = (1.0, 0.95, 0.9, 0.85)  # of the canvas
SIZE = 518
FULL_SIZE = 308  # 22 x 22 patches: about as many tokens as are kept of 37 x 37
TOWERS = {"": "vit_small_patch14_reg4_dinov2", "vitb_": "vit_base_patch14_reg4_dinov2"}
Side = Callable[[ImageTower, Tensor], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--keep", type=float, default=0.36)
    parser.add_argument("--vitb", action="store_true")
    parser.add_argument("--peak-of", nargs=2, metavar=("SIDE", "TOWER"))
    options = parser.parse_args()
    if options.peak_of:
        print_peak(*options.peak_of, breasts(options.images, options.keep))
        return
    result = figures("", breasts(options.images, options.keep), options.runs)
    if options.vitb:
        images = breasts(max(1, options.images // 2), options.keep)
        result |= figures("vitb_", images, options.runs)
    last_line(result | {"threads": torch.get_num_threads()})


def figures(prefix: str, images: Tensor, runs: int) -> dict[str, float]:
    """Return all metrics of one tower, with names that start with `prefix`."""
    name = TOWERS[prefix]
    model = tower(name)
    kept = tissue_patches(images, model.grid).float().mean().item()
    cpu, wall = timed(
        {side: lambda run=run: run(model, images) for side, run in SIDES.items()}, runs
    )
    full, everything = tower(name, FULL_SIZE), tower(name, FULL_SIZE, "all")
    noise = torch.zeros(len(images), 1, FULL_SIZE, FULL_SIZE)
    whole, _ = timed(
        {"ours": lambda: ours(full, noise), "dense": lambda: ours(everything, noise)}, runs
    )
    peaks = {side: peak(side, name, len(images), kept) for side in SIDES}
    result = {
        "keep": kept,
        "speedup_fp32": cpu["dense"] / cpu["fp32"],
        "speedup_bf16": cpu["dense"] / cpu["bf16"],
        "wall_speedup_fp32": wall["dense"] / wall["fp32"],
        "wall_speedup_bf16": wall["dense"] / wall["bf16"],
        "dense_cpu_s": cpu["dense"],
        "memory_ratio": peaks["fp32"][0] / peaks["dense"][0],
        "memory_ratio_bf16": peaks["bf16"][0] / peaks["dense"][0],
        "step_memory_ratio": peaks["fp32"][1] / peaks["dense"][1],
        "step_memory_ratio_bf16": peaks["bf16"][1] / peaks["dense"][1],
        "dense_peak_mib": peaks["dense"][0],
        "mask_cost": whole["ours"] / whole["dense"],
    }
    return {prefix + key: round(value, 3) for key, value in result.items()}


def dense(model: ImageTower, images: Tensor) -> None:
    model.model.forward_features(images).mean().backward()


def ours(model: ImageTower, images: Tensor) -> None:
    features = model(images)
    (features.pooled.float().mean() + features.patches.float().mean()).backward()


def ours_bf16(model: ImageTower, images: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        features = model(images)
    (features.pooled.float().mean() + features.patches.float().mean()).backward()


SIDES: dict[str, Side] = {"dense": dense, "fp32": ours, "bf16": ours_bf16}


def timed(
    sides: dict[str, Callable[[], None]], runs: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return median CPU and wall seconds of each side, interleaved after a warm-up turn."""
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for turn in range(runs + 1):
        for side, run in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            used = time.process_time() - cpu, time.perf_counter() - wall
            if turn:
                seconds[side].append(used)
                print(f"{side}: {used[0]:.2f} CPU-s, {used[1]:.2f} s", flush=True)
    return tuple(
        {side: statistics.median(used[kind] for used in seconds[side]) for side in sides}
        for kind in (0, 1)
    )


def tower(name: str, size: int = SIZE, tokens: str = "tissue") -> ImageTower:
    torch.manual_seed(0)
    return ImageTower(
        ImageTowerConfig.model_validate({"tower": name, "size": (size, size), "tokens": tokens})
    )


def breasts(count: int, keep: float) -> Tensor:
    """Return images (count, 1, 518, 518) of noise in half ellipses on background -1."""
    generator = torch.Generator().manual_seed(0)
    noise = 1.9 * torch.rand(count, 1, SIZE, SIZE, generator=generator) - 0.9
    shapes = torch.stack([ellipse(HEIGHTS[i % len(HEIGHTS)], keep) for i in range(count)])
    return torch.where(shapes.unsqueeze(1), noise, -1.0)


def ellipse(height: float, keep: float) -> Tensor:
    """Return a mask (518, 518) bool, wide enough for the share `keep` of patches to have tissue."""
    place = torch.arange(SIZE) + 0.5
    down = (place / SIZE - 0.5).unsqueeze(1) / (height / 2)
    narrow, wide = 0.0, 1.5
    for _ in range(30):
        width = (narrow + wide) / 2
        shape = down**2 + (place / SIZE / width) ** 2 < 1
        patches = tissue_patches(shape[None, None].float() - 1, (SIZE // 14, SIZE // 14))
        narrow, wide = (width, wide) if patches.float().mean() < keep else (narrow, width)
    return shape


def peak(side: str, name: str, count: int, keep: float) -> tuple[float, float]:
    """Return the peak MiB of a process that does one step, and the part due to the step."""
    numbers = ["--images", str(count), "--keep", str(keep)]
    command = [
        sys.executable,
        "-m",
        "benchmarks.method.image_tower",
        *numbers,
        "--peak-of",
        side,
        name,
    ]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout
    highest, before = map(float, output.split())
    return highest, highest - before


def print_peak(side: str, name: str, images: Tensor) -> None:
    model = tower(name)
    before = resident("VmRSS")
    SIDES[side](model, images)
    print(resident("VmHWM"), before)


def resident(key: str) -> float:
    """Return MiB of this process: `VmRSS` now, `VmHWM` at its peak (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{key}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
