"""Zero-shot density on real films: five patient folds, three seeds, simple baselines and controls.

    python -m benchmarks.quality.mias_folds DATA [--seeds 0 1 2] [--work DIR]
        [--shuffled-seeds 0]

DATA is the mini-MIAS folder. Fold f contains the patients with number % 5 == f; the federation of
configs/mias.yaml is trained on the others and predicts for the fold, so that every prediction is
from models that never saw the patient. Probabilities are averaged over a patient's films and over
seeds. Nothing is tuned on the folds.

Controls: `shuffled` trains with label rows assigned to wrong patients, so that reports do not match
their films; `training wording` uses sentences of the reports as prompts, while the headline result
uses wording never trained on.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import last_line, paired_interval
from benchmarks.quality.baselines import fitted, histograms, histograms_and_texture
from mama.config import Experiment
from mama.config.load import load
from mama.data.adapters.mias import patient_number
from mama.data.adapters.mias_wording import DENSITY
from mama.data.ingest.run import ingest
from mama.data.manifest import Dataset
from mama.evaluation.features import image_features
from mama.evaluation.predictions import Predictions, auc
from mama.evaluation.protocols.zero_shot import zero_shot
from mama.final.saved import load_final
from mama.system.seeds import numpy_generator
from sim.config import SimulatedExperiment
from sim.run import simulate

FOLDS = 5
SIDES = (
    192,
    96,
)  # pixels: the model's size, and one at which the simple baselines do better
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/mias-folds"))
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--shuffled-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    options = parser.parse_args()
    kinds = ["zero-shot", "training wording", "shuffled"]
    # By kind and patient: one row of probabilities per seed.
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    truth: dict[str, int] = {}
    for fold in options.folds:
        home = options.work / f"fold-{fold}"
        train = folded(options.data, home / "train", lambda p, f=fold: p % FOLDS != f)
        test = ingested(folded(options.data, home / "test", lambda p, f=fold: p % FOLDS == f), home)
        for seed in options.seeds:
            final = trained(train, home / f"seed-{seed}", seed, options.set)
            note(found, truth, kinds[0], predict(final, test))
            note(found, truth, kinds[1], predict(final, test, wording=DENSITY))
            if seed in options.shuffled_seeds:
                wrong = shuffled(train, home / f"shuffled-{seed}-data", seed)
                final = trained(wrong, home / f"shuffled-{seed}", seed, options.set)
                note(found, truth, kinds[2], predict(final, test))
            print(f"fold {fold}, seed {seed} done", flush=True)
        for side in SIDES:
            parts = [
                ingested(part, home / f"simple-{side}-{part.name}", side)
                for part in (train, home / "test")
            ]
            simple(found, truth, side, *parts)
    report(found, truth, len(options.seeds))


def folded(data: Path, folder: Path, chosen: object) -> Path:
    """Link the films of the chosen patients and copy their rows of the table."""
    assert callable(chosen)
    (folder / "png").mkdir(parents=True, exist_ok=True)
    for film in sorted((data / "png").glob("mdb*.png")):
        link = folder / "png" / film.name
        if chosen(patient(film.stem)) and not link.exists():
            link.symlink_to(film.resolve())
    rows = [
        row for row in (data / "labels").read_text(encoding="utf-8").splitlines() if row.strip()
    ]
    kept = [row for row in rows if chosen(patient(row.split()[0]))]
    (folder / "labels").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


def shuffled(train: Path, folder: Path, seed: int) -> Path:
    """Link the same films, with the table's patients permuted."""
    folded(train, folder, lambda p: True)
    rows = [row.split() for row in (train / "labels").read_text(encoding="utf-8").splitlines()]
    numbers = sorted({patient(row[0]) for row in rows})
    order = numpy_generator(seed, "shuffle").permutation(len(numbers))
    other = {numbers[i]: numbers[order[i]] for i in range(len(numbers))}
    moved = []
    for film, *rest in rows:
        number = int(film[3:])
        moved.append(" ".join([f"mdb{2 * other[patient(film)] - number % 2:03d}", *rest]))
    (folder / "labels").write_text("\n".join(sorted(moved)) + "\n", encoding="utf-8")
    return folder


def trained(data: Path, out: Path, seed: int, overrides: list[str]) -> Path:
    """Return final/ of a federation on `data` in which all patients train."""
    settings = [*overrides, f"seed={seed}", "simulation.test_fraction=0.000001"]
    if not (out / "final" / "model.safetensors").exists():
        simulate(load(SimulatedExperiment, Path("configs/mias.yaml"), settings), out, data=data)
    return out / "final"


def ingested(source: Path, home: Path, side: int | None = None) -> Dataset:
    """Ingest the films for the model of configs/mias.yaml or with `side` pixels, as one split."""
    if side is None:
        side = max(load(SimulatedExperiment, Path("configs/mias.yaml")).image.size)
    ingest(
        source,
        home / "dataset",
        adapter="mias",
        secret=bytes(32),
        long_side=side,
        split=lambda study: "test",
    )
    return Dataset(home / "dataset")


def predict(
    final: Path, dataset: Dataset, wording: dict[str, list[str]] | None = None
) -> Predictions:
    """Predict zero-shot density, with `wording` instead of the experiment's prompts if given."""
    model, experiment = load_final(final)
    if wording:
        values = experiment.model_dump(mode="json")
        values["evaluation"]["density"] = {name: list(w) for name, w in wording.items()}
        experiment = Experiment.model_validate(values)
    studies = dataset.studies("test")
    features = image_features(model, dataset, studies, CPU)
    return zero_shot(model, experiment, studies, features, CPU)["density"]


def simple(
    found: dict[str, dict[str, list[np.ndarray]]],
    truth: dict[str, int],
    side: int,
    train: Dataset,
    test: Dataset,
) -> None:
    """Add the baselines' predictions for one fold."""
    for name, feature in (
        ("histogram", histograms),
        ("histogram + texture", histograms_and_texture),
    ):
        a, b = train.studies("test"), test.studies("test")
        answers = fitted("density", a, feature(train, a), b, feature(test, b))
        note(found, truth, f"{name} at {side}", answers)


def note(
    found: dict[str, dict[str, list[np.ndarray]]],
    truth: dict[str, int],
    kind: str,
    answers: Predictions,
) -> None:
    """Add predictions by patient; a study is a patient's pair of films."""
    known = answers.known()
    for unit, row, k in zip(known.units, known.probabilities, known.truths(), strict=True):
        found.setdefault(kind, {}).setdefault(unit.patient, []).append(row)
        truth[unit.patient] = int(k)


def report(
    found: dict[str, dict[str, list[np.ndarray]]], truth: dict[str, int], seeds: int
) -> None:
    """Print the table of docs/results.md and the last line."""
    patients = sorted(truth)
    labels = np.array([truth[p] for p in patients])
    classes = ("D", "F", "G")
    mean = {k: np.stack([np.mean(rows[p], axis=0) for p in patients]) for k, rows in found.items()}
    summary: dict[str, object] = {"patients": len(patients), "seeds": seeds}

    def area(kind: str, rows: np.ndarray) -> float:
        value = auc(classes, mean[kind][rows], labels[rows])
        return float("nan") if value is None else value

    every = np.arange(len(patients))
    for kind in mean:
        low, high = paired_interval(lambda rows, k=kind: area(k, rows), patients)
        summary[kind] = [area(kind, every), low, high]
        single = []
        for s in range(len(found[kind][patients[0]])):
            own = np.stack([found[kind][p][s] for p in patients])
            single.append(auc(classes, own, labels))
        shown = " ".join(f"{a:.3f}" for a in single)
        print(f"{kind:<28}{area(kind, every):.3f} [{low:.3f}, {high:.3f}]  by seed {shown}")
    for other in (kind for kind in found if kind.startswith("histogram")):
        low, high = paired_interval(
            lambda rows, o=other: area("zero-shot", rows) - area(o, rows), patients
        )
        middle = area("zero-shot", every) - area(other, every)
        summary[f"zero-shot - {other}"] = [middle, low, high]
        print(f"zero-shot - {other}: {middle:+.3f} [{low:+.3f}, {high:+.3f}]")
    last_line(summary)


def patient(film: str) -> int:
    """Return the patient's number from a film's name."""
    return patient_number(int(film[3:]))


if __name__ == "__main__":
    main()
