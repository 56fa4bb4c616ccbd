"""Quickstart on new synthetic patients, several seeds, with simple baselines and local models.

    python -m benchmarks.quality.synthetic_seeds [--seeds 11 12 13 14 15] [--work DIR]
        [--set a.b=value]

For each seed: the federation of configs/quickstart.yaml, each hospital alone with the same steps,
the untrained model, and baselines fitted on all hospitals' training data, all tested on 210 new
patients (420 breasts) of another seed, with labels independent of vendor. No choice was made on
these seeds. AUCs are means of within-vendor AUCs. The interval of a difference resamples patients
over all seeds. Finished runs in --work are reused.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import last_line, paired_interval
from benchmarks.quality.baselines import blobs, fitted, histograms
from mama.config import Experiment
from mama.config.load import load
from mama.data.manifest import Dataset
from mama.data.studies import Study
from mama.evaluation.evaluate import answers
from mama.evaluation.predictions import Predictions, auc
from mama.exchange.metrics import LABELS, Label
from mama.final.saved import save_final
from mama.model import build_model
from server.run.folder import RunFolder
from sim.config import SimulatedExperiment
from sim.run import federate
from sim.sites import make_sites

FRESH = 1_000_003
# By label, model and seed: one prediction per vendor.
Found = dict[Label, dict[str, list[Predictions]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--work", type=Path, default=Path("runs/synthetic-seeds"))
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--federated-only", action="store_true")
    options = parser.parse_args()
    results = []
    for seed in options.seeds:
        found, seconds = one_seed(seed, options.work, options.set, options.federated_only)
        results.append(found)
        shown = {
            f"{label} {name}": round(within_vendor(parts), 3)
            for label in LABELS
            for name, parts in found[label].items()
        }
        print(f"seed {seed}: {seconds:.0f} s of training, {shown}", flush=True)
    summarise(results)


def one_seed(
    seed: int, work: Path, overrides: list[str], federated_only: bool
) -> tuple[Found, float]:
    """Evaluate all models of one seed on the same new patients; also return training seconds."""
    home = work / f"seed-{seed}"
    config, train, test = datasets(seed, home, overrides)
    experiment = config.experiment()
    files = [dataset.folder.parent / "site.yaml" for dataset in train]
    models = {"federated": trained(experiment, files, home / "federated")}
    seconds = json.loads((home / "federated" / "metrics.json").read_text(encoding="utf-8"))[
        "timing"
    ]["train_s"]
    if not federated_only:
        alone = experiment.model_copy(
            update={"participation": experiment.participation.model_copy(update={"quorum": 1})}
        )
        for file in files:
            name = file.parent.name
            models[f"alone: {name}"] = trained(alone, [file], home / name)
        save_final(home / "untrained", build_model(experiment), experiment)
        models["untrained"] = home / "untrained"
    found: Found = {label: {} for label in LABELS}
    for name, final in models.items():
        for dataset in test:
            for label, predictions in answers(final, dataset).items():
                found[label].setdefault(name, []).append(predictions)
    for name, feature in (("histogram", histograms), ("blob detector", blobs)):
        for label, parts in baseline(feature, train, test).items():
            found[label][name] = parts
    return found, seconds


def datasets(
    seed: int, home: Path, overrides: list[str]
) -> tuple[SimulatedExperiment, list[Dataset], list[Dataset]]:
    """Return the quickstart's sites of a seed, and new patients of the same vendors."""
    config = load(
        SimulatedExperiment, Path("configs/quickstart.yaml"), [*overrides, f"seed={seed}"]
    )
    fresh = config.model_copy(
        update={
            "seed": seed + FRESH,
            "simulation": config.simulation.model_copy(update={"train_studies": 1}),
        }
    )
    train = [Dataset(path.parent / "dataset") for path in _made(config, home)]
    test = [Dataset(path.parent / "dataset") for path in _made(fresh, home / "fresh")]
    return config, train, [only_test(dataset) for dataset in test]


def _made(config: SimulatedExperiment, home: Path) -> list[Path]:
    return list(make_sites(config, home, None, lambda *_: None).files.values())


def baseline(
    feature: Callable[[Dataset, list[Study]], np.ndarray], train: list[Dataset], test: list[Dataset]
) -> dict[Label, list[Predictions]]:
    """Fit a baseline on all sites' training studies; return its predictions by vendor."""
    studies = [dataset.studies("train") for dataset in train]
    features = np.concatenate([feature(d, s) for d, s in zip(train, studies, strict=True)])
    flat = [study for part in studies for study in part]
    answers_of: dict[Label, list[Predictions]] = {}
    for label in LABELS:
        answers_of[label] = [
            fitted(label, flat, features, d.studies("test"), feature(d, d.studies("test")))
            for d in test
        ]
    return answers_of


def trained(experiment: Experiment, site_files: list[Path], out: Path) -> Path:
    """Return final/ of a federation; a finished run of the same experiment is reused."""
    done = (out / "final" / "model.safetensors").exists()
    if not done or RunFolder(out).experiment() != experiment:
        federate(experiment, site_files, out)
    return out / "final"


def only_test(dataset: Dataset) -> Dataset:
    """Return the dataset without its training studies."""
    dataset.manifest = dataset.manifest.model_copy(update={"studies": dataset.studies("test")})
    return dataset


def within_vendor(parts: list[Predictions]) -> float:
    """Return the mean over vendors of the AUC within a vendor."""
    return float(np.mean([auc(p.classes, p.probabilities, p.truths()) for p in parts]))


def summarise(results: list[Found]) -> None:
    """Print the table of docs/results.md and the last line."""
    summary: dict[str, Any] = {}
    for label in LABELS:
        names = list(results[0][label])
        print(f"\n{label}: AUC by seed, mean")
        for name in names:
            areas = [within_vendor(found[label][name]) for found in results]
            summary[f"{label}.{name}"] = areas
            print(
                f"  {name:<18}" + "  ".join(f"{a:.3f}" for a in areas) + f"  {np.mean(areas):.3f}"
            )
        alone = [name for name in names if name.startswith("alone")]
        for other in [*([alone] if alone else []), ["histogram"], ["blob detector"]]:
            title = "mean of sites alone" if len(other) > 1 else other[0]
            low, high, middle = difference(results, label, other)
            summary[f"{label}.federated - {title}"] = [middle, low, high]
            print(f"  federated - {title}: {middle:+.3f} [{low:+.3f}, {high:+.3f}]")
    last_line(summary)


def difference(
    results: list[Found], label: Label, others: list[str], of: str = "federated"
) -> tuple[float, float, float]:
    """Return interval and mean of `of` minus the mean of `others`, over all seeds and vendors."""
    blocks = [
        (found[label][of][v], [found[label][other][v] for other in others], f"{s}/{v}")
        for s, found in enumerate(results)
        for v in range(len(found[label][of]))
    ]
    groups = [f"{key}/{unit.patient}" for one, _, key in blocks for unit in one.units]
    starts = np.cumsum([0, *(len(one.units) for one, _, _ in blocks)])

    def statistic(rows: np.ndarray) -> float:
        values = []
        for (one, rest, _), start, stop in zip(blocks, starts[:-1], starts[1:], strict=True):
            mine = rows[(rows >= start) & (rows < stop)] - start
            truth = one.truths()[mine]
            areas = [auc(p.classes, p.probabilities[mine], truth) for p in (one, *rest)]
            if None not in areas:
                values.append(areas[0] - np.mean(areas[1:]))
        return float(np.mean(values))

    low, high = paired_interval(statistic, groups, draws=300)
    return low, high, statistic(np.arange(starts[-1]))


if __name__ == "__main__":
    main()
