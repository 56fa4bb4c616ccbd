"""Ablation on synthetic hospitals: zero-shot AUC as parts of the method are added one by one.

    python -m benchmarks.quality.ablation [--seeds 11 12 13] [--work DIR] [--set a.b=value]

The federation of configs/quickstart.yaml is trained once per row and seed and tested on 210 new
patients (420 breasts) per seed. AUCs are means of within-vendor AUCs; the interval is that of a
row's difference from the previous row, resampling patients over all seeds. The recipe was chosen
on other seeds with all parts. Finished runs in --work are reused. The last line has a list per
row: AUC by seed.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.common import last_line
from benchmarks.quality.synthetic_seeds import Found, datasets, difference, trained, within_vendor
from mama.config import Experiment
from mama.evaluation.evaluate import answers
from mama.exchange.metrics import LABELS

OFF = {
    "loss.image_image.weight": "0",
    "loss.second_text.weight": "0",
    "loss.local.weight": "0",
    "image.tokens": "all",
    "loss.identical_texts_match": "false",
}
# Each row is the previous row without these overrides, or with these.
ROWS: list[tuple[str, dict[str, str | None]]] = [
    ("CLIP: image-text alone", {}),
    ("+ second view (image-image)", {"loss.image_image.weight": None}),
    ("+ symmetric (second view-text)", {"loss.second_text.weight": None}),
    ("+ local alignment", {"loss.local.weight": None}),
    ("+ tissue tokens", {"image.tokens": None}),
    ("+ multi-positive", {"loss.identical_texts_match": None}),
    ("+ bf16", {"compute.precision": "bf16"}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--work", type=Path, default=Path("runs/synthetic-seeds"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    found: list[Found] = []
    for seed in options.seeds:
        found.append(one_seed(seed, options.work / f"seed-{seed}", options.set))
    summary = {}
    for label in LABELS:
        print(f"\n{label}")
        before = ""
        for name, _ in ROWS:
            areas = [within_vendor(one[label][name]) for one in found]
            summary[f"{label}.{name}"] = areas
            line = f"  {name:<32}{'  '.join(f'{a:.3f}' for a in areas)}  {np.mean(areas):.3f}"
            if before:
                low, high, middle = difference(found, label, [before], name)
                line += f"  {middle:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(line, flush=True)
            before = name
    last_line(summary)


def one_seed(seed: int, home: Path, overrides: list[str]) -> Found:
    """Evaluate all rows of one seed on the same new patients."""
    found: Found = {label: {} for label in LABELS}
    settings = dict(OFF)
    for number, (name, change) in enumerate(ROWS):
        for key, value in change.items():
            settings.pop(key, None)
            if value is not None:
                settings[key] = value
        config, train, test = datasets(
            seed, home, [*overrides, *(f"{key}={value}" for key, value in settings.items())]
        )
        files = [dataset.folder.parent / "site.yaml" for dataset in train]
        final = trained(experiment(config.experiment(), number), files, home / f"ablation-{number}")
        for dataset in test:
            for label, predictions in answers(final, dataset).items():
                found[label].setdefault(name, []).append(predictions)
        print(f"seed {seed}: {name} done", flush=True)
    return found


def experiment(whole: Experiment, number: int) -> Experiment:
    """Return the row's experiment without intermediate evaluations, distinguished by its number."""
    federation = whole.federation.model_copy(update={"evaluate_every": 0})
    return whole.model_copy(update={"name": f"ablation-{number}", "federation": federation})


if __name__ == "__main__":
    main()
