"""Input of a GPU: pairs a second from the cache, and how long the step waits for them.

    python -m benchmarks.gpu.input [--quick]

Drawn films of 518 px with the paper's augmentation, as the trainer reads them: threads that make a
batch each, in page-locked memory. `idle` is the share by which a step is longer than one whose
batches are ready.
"""

import os
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu.measure import wait
from benchmarks.gpu.workload import (
    SMALL,
    Size,
    make_model,
    make_text_folder,
    paper_experiment,
    run,
)
from benchmarks.method.workload import PAPER as PAPER_AUGMENTATION
from benchmarks.method.workload import make_dataset
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.training import trainer as trainer_module
from mama.training.trainer import Trainer

WORKERS = (1, 8)
STEPS = 6


class Ready:
    """Batches of study pairs made before the steps that use them."""

    def __init__(self, pairs: StudyPairs, trainer: Trainer, number: int):
        self.batch_size, self.stream = pairs.batch_size, pairs.stream
        made = pairs.batches(range(number), workers=4, ready=trainer.ready)
        self.made = list(made)

    def batches(self, steps: range, **_: Any) -> Any:
        """Yield the batches in turn."""
        yield from (self.made[step % len(self.made)] for step in steps)


def figures(size: Size, folder: Path, device: torch.device) -> dict[str, Any]:
    """Return pairs a second and the idle share by number of workers."""
    make_dataset(folder, 2 * size.studies, size.pixels)
    made = paper_experiment(size, augment=PAPER_AUGMENTATION)
    model = make_model(made, make_text_folder(folder, size), device)
    pairs = StudyPairs(Dataset(folder), made, "site")
    trainer = Trainer(model, pairs, made, device)
    result: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    steps = 3 if size is SMALL else STEPS
    for workers in WORKERS:
        begin = time.perf_counter()
        batches = pairs.batches(range(2 * steps), workers=workers, ready=trainer.ready)
        number = sum(len(batch) for batch in batches)
        result[f"pairs_per_s_{workers}"] = round(number / (time.perf_counter() - begin), 1)
    trainer.pairs = Ready(pairs, trainer, steps)  # type: ignore[assignment]
    steady_seconds(trainer, device, steps)
    ready = steady_seconds(trainer, device, 2 * steps)
    result["seconds_ready"] = round(ready, 4)
    trainer.pairs = pairs
    for workers in WORKERS:
        with patch.object(trainer_module, "WORKERS", workers):
            result[f"idle_{workers}"] = round(1 - ready / steady_seconds(trainer, device, 20), 3)
    return result


def steady_seconds(trainer: Trainer, device: torch.device, steps: int) -> float:
    """Return the mean time of a step after the first quarter, which waits for the first batches."""
    ends: list[float] = []

    def ended(step: int) -> None:
        wait(device)
        ends.append(time.perf_counter())

    trainer.train(0, steps, ended)
    kept = ends[steps // 4 :]
    return (kept[-1] - kept[0]) / (len(kept) - 1)


if __name__ == "__main__":
    run(figures, __doc__)
