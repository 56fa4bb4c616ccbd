"""Profile of a training step, and a check for Python loops over tokens or sentences.

    python -m benchmarks.method.step_profile [--batch 8]

Time: the step of training_step.py (ViT-S/14 at 518 px on tissue tokens, bf16 autocast, all four
terms, including data and optimiser) under torch.profiler, one thread; prints the five operators
with the largest self time, then `outside_operators` and `data`, the shares of the step outside of
torch operators and in the preparation of views and reports.
Loops: the number of torch operators called by a step's gradient at 140 px, `calls`; with all
patches instead of tissue; with half of the sentences; with twice the studies. A loop over tokens or
sentences would change the number.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common import last_line
from benchmarks.method.workload import (
    STILL,
    VIT_SMALL,
    experiment,
    make_dataset,
    make_text_model,
    table,
)
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.model import build_model
from mama.training.gradient import add_gradient
from mama.training.objective import TERMS
from mama.training.trainer import Trainer


class Calls(TorchDispatchMode):
    """Counter of operator calls, including the backward pass."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as large, TemporaryDirectory() as small:
        last_line(
            shares(trainer(Path(large), 518, options.batch)) | calls(trainer(Path(small), 140, 8))
        )


def trainer(folder: Path, size: int, studies: int) -> Trainer:
    make_dataset(folder, studies, size)
    make_text_model(folder)
    image = {"tower": VIT_SMALL, "size": [size, size]}
    made = experiment(image, studies, augment=STILL, compute={"precision": "bf16"})
    pairs = StudyPairs(Dataset(folder), made, "site")
    return Trainer(build_model(made, table(folder)), pairs, made, torch.device("cpu"))


def shares(trainer: Trainer) -> dict[str, Any]:
    trainer.train(0, 1)
    trainer.pairs.batch = record_function("data")(trainer.pairs.batch)
    with profile() as seen, record_function("step"):
        trainer.train(1, 1)
    rows = {row.key: row for row in seen.key_averages()}
    step, data = rows.pop("step"), rows.pop("data")
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))
    operators = sorted(rows.values(), key=lambda row: -row.self_cpu_time_total)
    whole = step.cpu_time_total
    return {
        "operators": {r.key: round(r.self_cpu_time_total / whole, 3) for r in operators[:5]},
        "outside_operators": round(
            (step.self_cpu_time_total + data.self_cpu_time_total) / whole, 3
        ),
        "data": round(data.cpu_time_total / whole, 3),
    }


def calls(trainer: Trainer) -> dict[str, int]:
    model, batch = trainer.model, trainer.pairs.batch(0)
    whole = Batch(
        batch.first.clamp(min=-0.9),
        batch.second.clamp(min=-0.9),
        batch.reports,
        batch.second_described,
    )
    half = [report[: len(report) // 2] for report in batch.reports]
    variants = {
        "calls": batch[:4],
        "calls_every_patch": whole[:4],
        "calls_half_the_sentences": Batch(batch.first, batch.second, half, batch.second_described)[
            :4
        ],
        "calls_twice_the_studies": batch,
    }
    found = {}
    for name, studies in variants.items():
        model.zero_grad()
        with Calls() as counted:
            add_gradient(model, studies, trainer.experiment.loss, TERMS, autocast=trainer.autocast)
        found[name] = counted.count
    return found


if __name__ == "__main__":
    main()
