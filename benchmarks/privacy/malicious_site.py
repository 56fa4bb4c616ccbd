"""Effect of one malicious site of five on the model, by aggregation rule.

    python -m benchmarks.privacy.malicious_site [--seeds 41] [--rules ...] [--attacks ...]
        [--set a.b=value]

Five hospitals like those of configs/quickstart.yaml. From the first round on the last one sends its
update with inverted sign; multiplied by a hundred; noise of ten times its norm; or an honest update
from training on reports that were permuted among its studies (`labels`). Rules: the mean with the
server's check of norms (`checked`: at most three times the typical norm) and without it; and,
without it, median and trimmed mean. All weights are uniform. Tested on new patients, 70 per
site with balanced labels; AUCs are means of those within each site. Finished runs in --work are
reused.
"""

import argparse
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.common import last_line
from benchmarks.quality.synthetic_seeds import datasets, trained, within_vendor
from client.site.config import SiteFile
from client.training import tasks
from mama.config import Experiment
from mama.config.load import load
from mama.data.manifest import Dataset, write_manifest
from mama.evaluation.evaluate import answers
from mama.exchange.arrays import Arrays
from mama.exchange.metrics import LABELS
from mama.exchange.protocol import Task
from sim.config import SimulatedExperiment

OFF = "strategy.norm_limit=1e12"
RULES = {
    "mean, checked": ["strategy.norm_limit=3"],
    "mean": [OFF],
    "median": [OFF, "strategy.aggregator.kind=median"],
    "trimmed mean": [OFF, "strategy.aggregator={kind: trimmed_mean, trim: 0.2}"],
}
Attack = Callable[[Arrays, int], Arrays]


def turned(update: Arrays, number: int) -> Arrays:
    return {name: -array for name, array in update.items()}


def hundredfold(update: Arrays, number: int) -> Arrays:
    return {name: 100 * array for name, array in update.items()}


def noise(update: Arrays, number: int) -> Arrays:
    """Return noise of ten times each tensor's norm."""
    random = np.random.default_rng(number)
    return {
        name: (10 * array.std() * random.standard_normal(array.shape)).astype(np.float32)
        for name, array in update.items()
    }


ATTACKS: dict[str, Attack | None] = {
    "none": None,
    "sign": turned,
    "x100": hundredfold,
    "random": noise,
    "labels": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[41])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--work", type=Path, default=Path("runs/malicious-site"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for seed in options.seeds:
        for attack in options.attacks:
            for rule in options.rules:
                areas = one_run(seed, attack, rule, options.work, options.set)
                print(f"seed {seed}, {attack}, {rule}: {areas}", flush=True)
                for label, area in areas.items():
                    found.setdefault(f"{label}.{attack}.{rule}", []).append(area)
    for label in LABELS:
        print(f"\n{label}: mean AUC\n{'':<10}" + "".join(f"{rule:>15}" for rule in options.rules))
        for attack in options.attacks:
            means = [np.mean(found[f"{label}.{attack}.{rule}"]) for rule in options.rules]
            print(f"{attack:<10}" + "".join(f"{mean:>15.3f}" for mean in means))
    summary: dict[str, Any] = found
    last_line(summary)


def one_run(
    seed: int, attack: str, rule: str, folder: Path, overrides: list[str]
) -> dict[str, float]:
    """Return the AUC by label of a federation whose last site is malicious."""
    home = folder / f"seed-{seed}"
    changes = [*overrides, "simulation.sites=5"]
    _, train, test = datasets(seed, home, changes)
    files = [dataset.folder.parent / "site.yaml" for dataset in train]
    if attack == "labels":
        files[-1] = with_wrong_reports(files[-1], home / "wrong-reports", seed)
    changes += [f"seed={seed}", "strategy.weights=uniform", "participation.quorum=4", *RULES[rule]]
    if rule == "trimmed mean":
        changes += ["participation.quorum=5"]
    config = load(SimulatedExperiment, Path("configs/quickstart.yaml"), changes)
    out = home / f"{attack}-{rule}".replace(", ", "-").replace(" ", "-")
    with attacking(files[-1].parent.name, ATTACKS[attack]):
        final = trained(config.experiment(), files, out)
    areas = [answers(final, dataset) for dataset in test]
    return {label: within_vendor([found[label] for found in areas]) for label in LABELS}


def attacking(bad: str, attack: Attack | None) -> AbstractContextManager:
    """Patch local training so that the malicious site's update is changed before it is sent."""
    if attack is None:
        return nullcontext()
    honest = tasks.train

    def train(site: SiteFile, experiment: Experiment, task: Task, *more: Any) -> tuple:
        metrics, update = honest(site, experiment, task, *more)
        return metrics, attack(update, task.round) if site.site == bad else update

    return patch.object(tasks, "train", train)


def with_wrong_reports(file: Path, home: Path, seed: int) -> Path:
    """Return a copy of a site in which each training study has the report of another."""
    site = home / file.parent.name
    if not site.exists():
        shutil.copytree(file.parent, site, ignore=shutil.ignore_patterns("state"))
        manifest = Dataset(site / "dataset").manifest
        train = [study for study in manifest.studies if study.split == "train"]
        order = np.random.default_rng(seed).permutation(len(train))
        given = dict(zip(order, np.roll(order, 1), strict=True))  # never its own
        wrong = {
            study.id: study.model_copy(update={"sentences": train[given[place]].sentences})
            for place, study in enumerate(train)
        }
        studies = tuple(wrong.get(study.id, study) for study in manifest.studies)
        write_manifest(site / "dataset", manifest.model_copy(update={"studies": studies}))
    return site / "site.yaml"


if __name__ == "__main__":
    main()
