"""Class probabilities of units (studies or breasts) beside their ground truth, and exact metrics of them."""

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from mama.data.studies import Study
from mama.errors import TrainingError
from mama.evaluation.pooling import MINIMUM
from mama.exchange.metrics import Label

# Density is named by one scheme or another; "D" is not the same in both.
SCHEMES = {"BI-RADS": frozenset("ABCD"), "MIAS": frozenset("FGD")}


@dataclass(frozen=True)
class Unit:
    """What one prediction is about: a study for density, a breast for suspicious."""

    images: tuple[int, ...]
    truth: str | None
    vendor: str | None
    study: str
    patient: str


@dataclass(frozen=True)
class Predictions:
    """`probabilities` (N, K) float64 of N units over K `classes`.

    Raises:
        TrainingError: one of them is no number; it would be counted as an answer like any other.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    units: list[Unit]

    def __post_init__(self) -> None:
        require_numbers(self.probabilities)

    def known(self) -> "Predictions":
        """Only the units whose truth is one of the classes; none where the truths are of another scheme."""
        classes = () if self.foreign() else self.classes
        rows = [i for i, unit in enumerate(self.units) if unit.truth in classes]
        return Predictions(self.classes, self.probabilities[rows], [self.units[i] for i in rows])

    def foreign(self) -> str | None:
        """Why the truths cannot be compared with the classes, where their names are of two schemes."""
        return mismatch({str(unit.truth) for unit in self.units if unit.truth}, self.classes)

    def truths(self) -> np.ndarray:
        """(N,) int64 class numbers; only for known units."""
        return np.array(
            [self.classes.index(str(unit.truth)) for unit in self.units], dtype=np.int64
        )


def require_numbers(values: np.ndarray) -> None:
    """Refuse what a model answers when its weights have run away.

    Raises:
        TrainingError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise TrainingError(
            "the model's answers are no finite numbers, so nothing is scored",
            where="evaluation",
            fix="Its training has diverged: lower optimiser.lr, and go back to an earlier model",
        )


def mismatch(labels: Collection[str], classes: Collection[str]) -> str | None:
    """What differs where labels and classes are named by two schemes of density, else None.

    Names that fit several schemes, or none, are taken as they are.
    """
    theirs, ours = scheme_of(labels), scheme_of(classes)
    if theirs is None or ours is None or theirs == ours:
        return None
    return f"the labels are {_named(theirs)}, the model's classes {_named(ours)}"


def units_of(studies: list[Study], label: Label) -> list[Unit]:
    """The units of a label. Image numbers count through all images of `studies` in order."""
    units, first = [], 0
    for study in studies:
        numbers = range(first, first + len(study.images))
        first += len(study.images)
        vendor = study.images[0].vendor if study.images else None
        if label == "density":
            groups = [(tuple(numbers), study.labels.density)]
        else:
            sides = sorted({image.laterality for image in study.images if image.laterality})
            suspicious = study.labels.suspicious or {}
            groups = [
                (
                    tuple(
                        n
                        for n, i in zip(numbers, study.images, strict=True)
                        if i.laterality == side
                    ),
                    {True: "yes", False: "no", None: None}[suspicious.get(side)],
                )
                for side in sides
            ]
        units += [
            Unit(images, truth, vendor, study.id, study.patient)
            for images, truth in groups
            if images
        ]
    return units


def mean_over(values: np.ndarray, units: list[Unit]) -> np.ndarray:
    """(units, K) means of per-image (images, K) values."""
    return np.stack([values[list(unit.images)].mean(0) for unit in units])


def balanced(predictions: Predictions) -> Predictions:
    """A subset of the known units with equally many of each class that occurs, in their order.

    It is drawn by a hash of the study's id: the same studies give the same subset in any order, and one that
    changes little as studies join. The paper scores its test sets so.
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
    """A number for each unit by its study and its place in it."""
    seen: Counter[str] = Counter()
    draws = []
    for unit in units:
        draws.append(hashlib.sha256(f"{unit.study}:{seen[unit.study]}".encode()).digest())
        seen[unit.study] += 1
    return draws


def auc(
    classes: tuple[str, ...], probabilities: np.ndarray, truth: np.ndarray, minimum: int = 1
) -> float | None:
    """Area under the ROC curve: of the second of two classes, else the macro mean of one class against the rest.

    Classes with fewer than `minimum` positives or negatives are left out; None when none remains.
    """
    columns = [1] if len(classes) == 2 else range(len(classes))
    areas = [
        roc_auc_score(truth == k, probabilities[:, k])
        for k in columns
        if minimum <= (truth == k).sum() <= len(truth) - minimum
    ]
    return float(np.mean(areas)) if areas else None


def metrics(predictions: Predictions) -> dict[str, object]:
    """`auc`, `balanced_accuracy`, `n`, units by class in `classes`, and `auc_within_vendor` of several vendors.

    Classes of fewer than MINIMUM units are in neither figure. Where the labels allow none it is None and `reason`
    says why.
    """
    known = predictions.known()
    truth = known.truths()
    counts = np.bincount(truth, minlength=len(known.classes))
    whole = auc(known.classes, known.probabilities, truth, MINIMUM)
    result: dict[str, object] = {
        "auc": whole,
        "balanced_accuracy": None
        if whole is None
        else _mean_recall(truth, known.probabilities.argmax(1), np.flatnonzero(counts >= MINIMUM)),
        "n": len(known.units),
        "classes": dict(zip(known.classes, counts.tolist(), strict=True)),
    }
    if whole is None:
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
    """Balanced accuracy: the mean over the classes of the share answered rightly."""
    return float(np.mean([(answers[truth == k] == k).mean() for k in classes]))


def _too_few(classes: int) -> str:
    if classes < 2:
        return "all labels are of one class" if classes else "no labels"
    return f"fewer than {MINIMUM} of a class"


def scheme_of(names: Collection[str]) -> str | None:
    """The one scheme that has all the names; None when several or none do."""
    having = [scheme for scheme, classes in SCHEMES.items() if names and classes.issuperset(names)]
    return having[0] if len(having) == 1 else None


def _named(scheme: str) -> str:
    return f"{scheme} ({', '.join(sorted(SCHEMES[scheme]))})"
