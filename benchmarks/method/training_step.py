"""Whole training step compared with the plain published implementation: ViT-S/14 at 518 px.

    python -m benchmarks.method.training_step [--runs 3] [--batch 8]

A step consists of data, towers, heads, the four losses, backward pass and optimiser; one thread,
one process, sides in turn. Plain (plain_mama.py, plain_pairs.py): dense square image, eager
attention that returns its weights, fp32, local loss report by report, JPEG and PIL. Ours: `Trainer`
on tissue tokens at native aspect ratio with bf16 autocast. `speedup` is plain / ours in CPU time
with masks as in evaluation, which contain the share `keep` of the patches; `speedup_augmented` with
the quickstart's augmentation, `speedup_paper_crop` with the paper's crops of 0.1 to 1 of the
canvas, each with its `keep_…`; `wall_…` in wall time; medians. `memory_ratio` is ours / plain of
peak resident memory beyond libraries and model, each side's first step in a separate process;
`total_memory_ratio` includes these. The plain side takes about 18 GiB, half of it with `--batch 4`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.common import last_line
from benchmarks.method.memory import growth, in_child, peak
from benchmarks.method.plain_mama import PlainMaMA, eager_gpt2
from benchmarks.method.plain_pairs import PlainPairs
from benchmarks.method.workload import (
    PAPER,
    QUICKSTART,
    STILL,
    TEXT,
    VIT_SMALL,
    experiment,
    make_dataset,
    make_text_model,
    table,
)
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.model import build_model
from mama.towers.tissue import tissue_patches
from mama.training.trainer import Trainer

SIZE, GRID = 518, (37, 37)
AUGMENTS = {"": STILL, "_augmented": QUICKSTART, "_paper_crop": PAPER}
PLAIN = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder, 3 * options.batch, SIZE)
        make_text_model(folder)
        mib = {side: in_child(memory, folder, options.batch, side) for side in (PLAIN, "")}
        figures = in_child(speed, folder, options.batch, options.runs)
    for side, (grown, total) in mib.items():
        print(f"{side or 'ours'}: {grown:.0f} MiB beyond the model, {total:.0f} MiB in all")
    figures["memory_ratio"] = round(mib[""][0] / mib[PLAIN][0], 3)
    figures["total_memory_ratio"] = round(mib[""][1] / mib[PLAIN][1], 3)
    last_line(figures)


def plain_steps(folder: Path, batch: int) -> Callable[[], None]:
    """Return a function that takes the next step."""
    pairs, model = PlainPairs(folder, SIZE), PlainMaMA(SIZE, eager_gpt2(folder / TEXT)).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=4e-5, weight_decay=0.1)

    def step() -> None:
        optimiser.zero_grad()
        model(pairs.batch(batch)).backward()
        optimiser.step()

    return step


def our_pairs(folder: Path, batch: int, side: str) -> StudyPairs:
    image = {"tower": VIT_SMALL, "size": [SIZE, SIZE]}
    bf16 = {"precision": "bf16"}
    made = experiment(image, batch, augment=AUGMENTS[side], compute=bf16)
    return StudyPairs(Dataset(folder), made, "site")


def our_steps(folder: Path, batch: int, side: str) -> Callable[[], None]:
    """Return a function that takes the next step."""
    pairs = our_pairs(folder, batch, side)
    model = build_model(pairs.experiment, table(folder))
    trainer = Trainer(model, pairs, pairs.experiment, torch.device("cpu"))
    numbers = count()
    return lambda: trainer.train(next(numbers), 1) and None


def steps(folder: Path, batch: int, side: str) -> Callable[[], None]:
    torch.set_num_threads(1)
    return plain_steps(folder, batch) if side == PLAIN else our_steps(folder, batch, side)


def memory(folder: Path, batch: int, side: str) -> tuple[float, float]:
    """Return the peak MiB of a first step, beyond the memory before it and in total."""
    return growth(steps(folder, batch, side)), peak()


def speed(folder: Path, batch: int, runs: int) -> dict[str, float]:
    """Return all metrics except memory."""
    sides = {side: steps(folder, batch, side) for side in (PLAIN, *AUGMENTS)}
    for side in sides:
        steps(folder, 2, side)()  # warm-up
    used: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(runs):
        for side, step in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            used[side].append((time.process_time() - cpu, time.perf_counter() - wall))
            print(
                f"{side or 'ours'}: {used[side][-1][0]:.1f} CPU-s, {used[side][-1][1]:.1f} s",
                flush=True,
            )
    cpu, wall = (
        {side: statistics.median(pair[kind] for pair in pairs) for side, pairs in used.items()}
        for kind in (0, 1)
    )
    figures = {"plain_cpu_s": round(cpu[PLAIN], 1)}
    for side in AUGMENTS:
        figures[f"speedup{side}"] = round(cpu[PLAIN] / cpu[side], 2)
        figures[f"wall_speedup{side}"] = round(wall[PLAIN] / wall[side], 2)
        figures[f"keep{side}"] = round(kept(our_pairs(folder, batch, side), runs), 3)
    return figures


def kept(pairs: StudyPairs, runs: int) -> float:
    """Return the mean share of patches that contain tissue in the steps taken."""
    views = [
        view for batch in map(pairs.batch, range(runs)) for view in (batch.first, batch.second)
    ]
    return float(tissue_patches(torch.cat(views), GRID).float().mean())


if __name__ == "__main__":
    main()
