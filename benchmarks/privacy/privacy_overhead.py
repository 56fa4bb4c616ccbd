"""Cost of privacy in CPU time: a private step compared with a plain one over the same groups.

Both encode 4 groups of 8 studies and compute the whole objective on each; the plain trainer
accumulates their gradients, the private one clips each, adds noise and writes its ledger. Steps
are interleaved, so that both run under the same conditions.

    python -m benchmarks.privacy.privacy_overhead

Last line: JSON with `cpu_ratio`, private over plain CPU seconds per step, and `noise_ns` and
`torch_noise_ns`, nanoseconds per value of noise with our generator and with `torch.normal`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import last_line
from benchmarks.method.workload import QUICKSTART, experiment, make_dataset, make_text_model, table
from client.privacy.ledger import SiteLedger
from client.site.config import BudgetConfig
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.model import build_model
from mama.privacy.groups import SlotPairs
from mama.privacy.noise import add_gaussian
from mama.privacy.slots import PatientSlots
from mama.privacy.training import PrivateTrainer
from mama.training.trainer import Trainer

GROUPS, SIZE = 4, 8
TOWER = {"tower": "vit_tiny_patch16_224", "size": [224, 112], "pooling": "mean_max"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        plain, private = _trainers(Path(name))
        trained = sum(p.numel() for _, p in private.parameters)
        seconds: dict[str, list[float]] = {"plain": [], "private": []}
        for step in range(options.steps + 1):
            for kind, trainer in (("plain", plain), ("private", private)):
                begin = time.process_time()
                trainer.train(step, 1)
                if step:  # the first is a warm-up
                    seconds[kind].append(time.process_time() - begin)
    ratios = np.array(seconds["private"]) / np.array(seconds["plain"])
    for kind, values in seconds.items():
        print(f"{kind:8} {np.median(values):.2f} s per step")
    print(
        f"private / plain: median {np.median(ratios):.3f}, {ratios.min():.3f} to {ratios.max():.3f}"
    )
    noise = {
        "noise_ns": _nanoseconds(lambda sums: add_gaussian(sums, 1.0)),
        "torch_noise_ns": _nanoseconds(lambda sums: sums.add_(torch.normal(0.0, 1.0, sums.shape))),
    }
    share = noise["noise_ns"] * 1e-9 * trained / np.median(seconds["private"])
    print(
        f"noise: {noise['noise_ns']:.1f} ns per value, torch.normal {noise['torch_noise_ns']:.1f}; "
        f"{share:.1%} of a private step"
    )
    last_line(
        {
            "cpu_ratio": sum(seconds["private"]) / sum(seconds["plain"]),
            "trained_parameters": trained,
            "steps": options.steps,
            **noise,
        }
    )


def _nanoseconds(add: Callable[[Tensor], object]) -> float:
    """Return the CPU time per value of adding noise, the best of five runs."""
    sums, taken = torch.zeros(4_000_000), []
    for _ in range(5):
        begin = time.process_time()
        add(sums)
        taken.append(time.process_time() - begin)
    return min(taken) / sums.numel() * 1e9


def _trainers(folder: Path) -> tuple[Trainer, PrivateTrainer]:
    make_text_model(folder)
    (folder / "data").mkdir()
    data = make_dataset(folder / "data", GROUPS * SIZE, 224)
    plain = _experiment(optimiser={"batch_size": SIZE, "accumulate": GROUPS})
    private = _experiment(
        optimiser={"batch_size": SIZE},
        privacy={
            "mode": "patient",
            "group_size": SIZE,
            "slots": GROUPS * SIZE,
            "sample_rate": 1.0,  # all groups in every step, as in the plain one
            "epsilon": 1000,
        },
    )
    device = torch.device("cpu")
    roster = PatientSlots().refilled([f"p{n}" for n in range(GROUPS * SIZE)], GROUPS * SIZE)
    ledger = SiteLedger(folder / "ledger", BudgetConfig(epsilon=1000))
    return (
        Trainer(build_model(plain, table(folder)), StudyPairs(data, plain, "site"), plain, device),
        PrivateTrainer(
            build_model(private, table(folder)),
            SlotPairs(data, private, "site", roster),
            private,
            device,
            ledger,
        ),
    )


def _experiment(**sections: dict) -> Experiment:
    return experiment(TOWER, SIZE, augment=QUICKSTART, **sections)


if __name__ == "__main__":
    main()
