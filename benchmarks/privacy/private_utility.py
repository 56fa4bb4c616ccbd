"""Accuracy of a small federation's model under patient-level privacy.

    python -m benchmarks.privacy.private_utility [--seeds 0 1 2] [--work DIR] [--set a.b=value]

configs/private.yaml as it is, and with only `privacy.mode: none` changed: the same hospitals,
weights and number of steps. A private step has four groups of 16 studies on average, a plain one a
batch of 16. Zero-shot AUC on new patients, 70 per site with balanced labels: the mean over sites.
`epsilon` is the largest spent by a site's patients. Finished runs in --work are reused.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import last_line
from benchmarks.quality.synthetic_seeds import datasets, trained, within_vendor
from mama.config.load import load
from mama.evaluation.evaluate import answers
from mama.exchange.metrics import LABELS
from sim.config import SimulatedExperiment

CONFIG = Path("configs/private.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/private-utility"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for seed in options.seeds:
        for mode in ("none", "patient"):
            for key, value in one_run(seed, mode, options.work, options.set).items():
                found.setdefault(f"{mode}.{key}", []).append(value)
                print(f"seed {seed}, {mode}, {key}: {value:.3f}", flush=True)
    for key, values in found.items():
        print(
            f"{key:<20}" + "".join(f"{v:>8.3f}" for v in values) + f"  mean {np.mean(values):.3f}"
        )
    last_line(found)


def one_run(seed: int, mode: str, work: Path, overrides: list[str]) -> dict[str, float]:
    """Return the AUC by label, and with privacy the largest epsilon."""
    home = work / f"seed-{seed}"
    config = load(SimulatedExperiment, CONFIG, [*overrides, f"seed={seed}", f"privacy.mode={mode}"])
    of_data = [f"simulation.train_studies={config.simulation.train_studies}"]
    _, train, test = datasets(seed, home, of_data)
    files = [dataset.folder.parent / "site.yaml" for dataset in train]
    final = trained(config.experiment(), files, home / mode)
    predictions = [answers(final, dataset) for dataset in test]
    areas = {label: within_vendor([found[label] for found in predictions]) for label in LABELS}
    privacy = json.loads((home / mode / "metrics.json").read_text(encoding="utf-8"))["privacy"]
    return areas | ({"epsilon": privacy["maximum"]} if privacy else {})


if __name__ == "__main__":
    main()
