"""Simple baselines on synthetic patients that a learned model must exceed.

    python -m benchmarks.quality.simple_baselines [--seeds 11 12 13 14 15] [--work DIR]

For each seed: an intensity histogram and a Laplacian-of-Gaussian blob detector, each with logistic
regression fitted on the training studies of the quickstart's three hospitals, tested on 420 new
breasts. AUCs are means of within-vendor AUCs.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.common import last_line
from benchmarks.quality.baselines import blobs, histograms
from benchmarks.quality.synthetic_seeds import baseline, datasets, within_vendor
from mama.exchange.metrics import LABELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--work", type=Path, default=Path("runs/synthetic-seeds"))
    options = parser.parse_args()
    areas: dict[str, list[float]] = {}
    for seed in options.seeds:
        _, train, test = datasets(seed, options.work / f"seed-{seed}", [])
        for name, feature in (("histogram", histograms), ("blob detector", blobs)):
            for label, parts in baseline(feature, train, test).items():
                areas.setdefault(f"{label}.{name}", []).append(within_vendor(parts))
    for name, values in areas.items():
        shown = "  ".join(f"{value:.3f}" for value in values)
        print(f"{name:<28}{shown}  mean {np.mean(values):.3f}")
    assert set(areas) == {
        f"{label}.{n}" for label in LABELS for n in ("histogram", "blob detector")
    }
    last_line(areas)


if __name__ == "__main__":
    main()
