"""Predictions: class probabilities and truths of units (studies or breasts), with exact metrics."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import roc_auc_score

from mama.data.studies import Laterality, Study
from mama.errors import TrainingError
from mama.evaluation.pooling import MINIMUM
from mama.exchange.metrics import Label

# Column of a study's labels that is the truth of a prediction; `cancer` is that of pathology.
Truth = Label | Literal["cancer"]
# Naming schemes of density; "D" has a different meaning in each.
SCHEMES = {"BI-RADS": frozenset("ABCD"), "MIAS": frozenset("FGD")}


@dataclass(frozen=True)
class Unit:
    """Subject of one prediction: a study for density, a breast for suspicious."""

    images: tuple[int, ...]
    truth: str | None
    vendor: str | None
    study: str
    patient: str


@dataclass(frozen=True)
class Predictions:
    """`probabilities` (N, K) float64 of N units over K `classes`.

    Raises:
        TrainingError: a probability is not finite; it would otherwise be scored like any other.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    units: list[Unit]

    def __post_init__(self) -> None:
        require_numbers(self.probabilities)

    def known(self) -> "Predictions":
        """Return the units whose truth is one of the classes; none if the schemes differ."""
        classes = () if self.foreign() else self.classes
        rows = [i for i, unit in enumerate(self.units) if unit.truth in classes]
        return Predictions(self.classes, self.probabilities[rows], [self.units[i] for i in rows])

    def foreign(self) -> str | None:
        """Return a message if truths and classes use different schemes of density, else None."""
        return mismatch({str(unit.truth) for unit in self.units if unit.truth}, self.classes)

    def truths(self) -> np.ndarray:
        """Return class numbers, (N,) int64; only for known units."""
        return np.array(
            [self.classes.index(str(unit.truth)) for unit in self.units], dtype=np.int64
        )


def require_numbers(values: np.ndarray) -> None:
    """Refuse values that are not finite, as of a model that has diverged.

    Raises:
        TrainingError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise TrainingError(
            "the model's outputs are not finite, so nothing is scored",
            where="evaluation",
            fix="Training has diverged: lower optimiser.lr and return to an earlier model",
        )


def mismatch(labels: Collection[str], classes: Collection[str]) -> str | None:
    """Return a message if labels and classes use two different schemes of density, else None.

    Names that fit several schemes, or none, never differ.
    """
    labelled, scored = scheme_of(labels), scheme_of(classes)
    if labelled is None or scored is None or labelled == scored:
        return None
    return f"the labels are {_described(labelled)}, the model's classes {_described(scored)}"


def units_of(studies: Sequence[Study], label: Truth) -> list[Unit]:
    """Return the units of a label; image numbers run through all images of `studies` in order."""
    units, first = [], 0
    for study in studies:
        numbers = range(first, first + len(study.images))
        first += len(study.images)
        vendor = study.images[0].vendor if study.images else None
        if label == "density":
            groups = [(tuple(numbers), study.labels.density)]
        else:
            sides = sorted({image.laterality for image in study.images if image.laterality})
            truths: dict[Laterality, bool] = getattr(study.labels, label) or {}
            groups = [
                (
                    tuple(
                        n
                        for n, i in zip(numbers, study.images, strict=True)
                        if i.laterality == side
                    ),
                    {True: "yes", False: "no", None: None}[truths.get(side)],
                )
                for side in sides
            ]
        units += [
            Unit(images, truth, vendor, study.id, study.patient)
            for images, truth in groups
            if images
        ]
    return units


def by_pathology(predictions: Predictions, studies: Sequence[Study]) -> Predictions:
    """Return predictions of `suspicious` with the results of pathology as truths.

    Breasts without a result are unknown, whatever a radiologist said of them.
    """
    return Predictions(predictions.classes, predictions.probabilities, units_of(studies, "cancer"))


def mean_over(values: np.ndarray, units: list[Unit]) -> np.ndarray:
    """Return the means (units, K) of per-image values (images, K)."""
    return np.stack([values[list(unit.images)].mean(0) for unit in units])


def balanced(predictions: Predictions) -> Predictions:
    """Return a class-balanced subset of the known units, in their order.

    Units are drawn by a hash of the study's id: the same studies give the same subset in any order,
    and adding studies changes it little. The paper's test sets are scored this way.
    """
    known = predictions.known()
    truth, drawn = known.truths(), _draws(known.units)
    occurring, sizes = np.unique(truth, return_counts=True)
    rows = [
        row
        for k in occurring
        for row in sorted(np.flatnonzero(truth == k), key=drawn.__getitem__)[: sizes.min()]
    ]
    rows.sort()
    return Predictions(known.classes, known.probabilities[rows], [known.units[i] for i in rows])


def _draws(units: list[Unit]) -> list[bytes]:
    """Return a pseudo-random key per unit, from its study and its index within the study."""
    seen: Counter[str] = Counter()
    draws = []
    for unit in units:
        draws.append(hashlib.sha256(f"{unit.study}:{seen[unit.study]}".encode()).digest())
        seen[unit.study] += 1
    return draws


def auc(
    classes: tuple[str, ...], probabilities: np.ndarray, truth: np.ndarray, minimum: int = 1
) -> float | None:
    """Return the area under the ROC curve: of the second of two classes, else the macro mean.

    The macro mean is over classes, each against the rest. Classes with fewer than `minimum`
    positives or negatives are ignored; None if none remains.
    """
    areas = [
        roc_auc_score(truth == k, probabilities[:, k]) for k in ranked(classes, truth, minimum)
    ]
    return float(np.mean(areas)) if areas else None


def ranked(classes: tuple[str, ...], truth: np.ndarray, minimum: int = 1) -> list[int]:
    """Return the classes of a mean AUC: those with `minimum` positives and as many negatives."""
    columns = [1] if len(classes) == 2 else range(len(classes))
    return [k for k in columns if minimum <= (truth == k).sum() <= len(truth) - minimum]


def metrics(predictions: Predictions) -> dict[str, object]:
    """Return `auc`, `balanced_accuracy`, `n`, units by class in `classes` and `auc_within_vendor`.

    `auc_within_vendor` is present if there are several vendors. Classes with fewer than MINIMUM
    units are ignored in the figures. If the labels allow no figure, it is None and `reason` gives
    the cause.
    """
    known = predictions.known()
    truth = known.truths()
    counts = np.bincount(truth, minlength=len(known.classes))
    overall = auc(known.classes, known.probabilities, truth, MINIMUM)
    result: dict[str, object] = {
        "auc": overall,
        "balanced_accuracy": None
        if overall is None
        else _mean_recall(truth, known.probabilities.argmax(1), np.flatnonzero(counts >= MINIMUM)),
        "n": len(known.units),
        "classes": dict(zip(known.classes, counts.tolist(), strict=True)),
    }
    if overall is None:
        result["reason"] = predictions.foreign() or _too_few(int((counts > 0).sum()))
    vendors = np.array([unit.vendor or "" for unit in known.units])
    if len(set(vendors)) > 1:
        areas = [
            auc(known.classes, known.probabilities[vendors == v], truth[vendors == v], MINIMUM)
            for v in sorted(set(vendors))
        ]
        present = [area for area in areas if area is not None]
        result["auc_within_vendor"] = float(np.mean(present)) if present else None
    return result


def _mean_recall(truth: np.ndarray, answers: np.ndarray, classes: np.ndarray) -> float:
    """Return the balanced accuracy: the mean recall over the classes."""
    return float(np.mean([(answers[truth == k] == k).mean() for k in classes]))


def _too_few(classes: int) -> str:
    if classes < 2:
        return "all labels are of one class" if classes else "no labels"
    return f"fewer than {MINIMUM} of a class"


def scheme_of(names: Collection[str]) -> str | None:
    """Return the only scheme that has all the names; None if there are none or several."""
    matches = [scheme for scheme, classes in SCHEMES.items() if names and classes.issuperset(names)]
    return matches[0] if len(matches) == 1 else None


def _described(scheme: str) -> str:
    return f"{scheme} ({', '.join(sorted(SCHEMES[scheme]))})"
