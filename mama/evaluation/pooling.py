"""Many sites' counts to one figure, at the server."""

from collections.abc import Iterable, Mapping

import numpy as np

from mama.exchange.metrics import BINS, LABELS, METHODS, Cell, EvaluationCounts, LabelCounts

# A figure of a class needs so many units of it and so many others: with fewer a single answer decides it.
MINIMUM = 3
TOO_FEW = "no site has enough labelled test studies of each class"


class Curve:
    """Scores of one class against the rest, as positives and negatives by fine bin, freed of the masking.

    Of a label that stays with probability a and becomes this class from any other with b, (P, N) masked counts have
    the expectation (a p + b n, (1 - a) p + (1 - b) n); solved for (p, n), which may be below zero in a bin.
    """

    def __init__(self, cells: Iterable[Cell], kept: float = 1.0, moved: float = 0.0):
        negatives, positives = np.zeros(BINS), np.zeros(BINS)
        self.cells = 0
        for cell in cells:
            width = cell.stop - cell.start
            negatives[cell.start : cell.stop] += cell.negatives / width
            positives[cell.start : cell.stop] += cell.positives / width
            self.cells += 1
        gap = kept - moved
        self.positives = ((1 - moved) * positives - moved * negatives) / gap
        self.negatives = (kept * negatives - (1 - kept) * positives) / gap
        # A unit that is counted in part on both sides is no pair with itself.
        self.own_pairs = (
            -(
                (1 - moved) * (1 - kept) * float(positives.sum())
                + moved * kept * float(negatives.sum())
            )
            / gap**2
        )
        self.least = MINIMUM if moved else 0

    def __add__(self, other: "Curve") -> "Curve":
        total = Curve([])
        total.positives = self.positives + other.positives
        total.negatives = self.negatives + other.negatives
        total.own_pairs = self.own_pairs + other.own_pairs
        total.cells = self.cells + other.cells
        total.least = max(self.least, other.least)
        return total

    def auc(self) -> float | None:
        """Area under the ROC curve, pairs inside one cell counting one half.

        None where there is nothing to rank: a single cell, or too few of a side once the masking is taken off.
        """
        positives, negatives = float(self.positives.sum()), float(self.negatives.sum())
        if self.cells < 2 or min(positives, negatives) <= self.least:
            return None
        below = np.cumsum(self.negatives) - self.negatives
        ranked = float((self.positives * (below + self.negatives / 2)).sum())
        area = (ranked - self.own_pairs / 2) / (positives * negatives - self.own_pairs)
        return min(max(area, 0.0), 1.0)


def cells_auc(cells: Iterable[Cell]) -> float | None:
    """Area under the ROC curve of binned counts, also of several sites whose cells differ.

    Each cell is spread evenly over its fine bins. None as `Curve.auc`.
    """
    return Curve(cells).auc()


def rates_of(counts: LabelCounts) -> tuple[float, float]:
    """`kept` and `moved` among the classes that are large enough: units that moved to another were left out."""
    dropped = sum(recall is None for recall in counts.recalls.values())
    there = 1 - dropped * counts.moved
    return min(1.0, counts.kept / there), counts.moved / there


def site_auc(counts: LabelCounts) -> float | None:
    """One site's AUC: the mean over its classes that are large enough."""
    areas = [Curve(cells, *rates_of(counts)).auc() for cells in counts.histograms.values() if cells]
    present = [area for area in areas if area is not None]
    return float(np.mean(present)) if present else None


def summary(
    answers: Mapping[str, EvaluationCounts], why_none: str = TOO_FEW
) -> dict[str, dict[str, dict[str, object]]]:
    """Figures by method and label over all sites, plus each site's AUC; `why_none` is the reason where there is none.

    `auc` is the mean of the sites' own AUCs: a model that only tells vendors apart gains nothing there.
    `auc_pooled` is that of the summed histograms, `balanced_accuracy` the mean recall of the summed counts,
    `classes` has the units they are made of. Where sites masked their labels, the figures are freed of
    it; those of a site of few units can be far off.
    """
    result: dict[str, dict[str, dict[str, object]]] = {}
    asked = {method for answer in answers.values() for method in answer.counts}
    for method in (method for method in METHODS if method in asked or not asked):
        for label in LABELS:
            counts = {
                site: answer.counts[method][label]
                for site, answer in sorted(answers.items())
                if label in answer.counts.get(method, {})
            }
            result.setdefault(method, {})[label] = _label_summary(counts, why_none)
    return result


def _label_summary(counts: Mapping[str, LabelCounts], why_none: str) -> dict[str, object]:
    areas = {site: site_auc(count) for site, count in counts.items()}
    present = [area for area in areas.values() if area is not None]
    units = _units(list(counts.values()))
    if not present or sum(count >= MINIMUM for count in units.values()) < 2:
        return {
            "auc": None,
            "balanced_accuracy": None,
            "classes": units,
            "reason": why_none,
        }
    return {
        "auc": float(np.mean(present)),
        "auc_pooled": _pooled_auc(list(counts.values())),
        "balanced_accuracy": _balanced_accuracy(list(counts.values())),
        "classes": units,
        "sites": areas,
    }


def _pooled_auc(counts: list[LabelCounts]) -> float | None:
    areas = []
    for name in sorted({name for count in counts for name in count.histograms}):
        curves = [
            Curve(count.histograms[name] or [], *rates_of(count))
            for count in counts
            if count.histograms.get(name)
        ]
        area = sum(curves, Curve([])).auc()
        if area is not None:
            areas.append(area)
    return float(np.mean(areas)) if areas else None


def _units(counts: list[LabelCounts]) -> dict[str, int]:
    """Units by class as the sites masked them, of the classes that are large enough there."""
    units: dict[str, int] = {}
    for recalls in (count.recalls for count in counts):
        for name, recall in recalls.items():
            units[name] = units.get(name, 0) + (recall.units if recall else 0)
    return dict(sorted(units.items()))


def _balanced_accuracy(counts: list[LabelCounts]) -> float | None:
    recalls = []
    for name in sorted({name for count in counts for name in count.recalls}):
        correct = total = 0.0
        for count in counts:
            recall = count.recalls.get(name)
            if recall is None:
                continue
            kept, moved = rates_of(count)
            units = sum(other.units for other in count.recalls.values() if other)
            correct += (recall.correct - moved * (recall.correct + recall.mistaken)) / (
                kept - moved
            )
            total += (recall.units - moved * units) / (kept - moved)
        if total > 0:
            recalls.append(min(max(correct / total, 0.0), 1.0))
    return float(np.mean(recalls)) if recalls else None
