"""Pooling of many sites' evaluation counts into one figure, at the server."""

from collections.abc import Iterable, Mapping

import numpy as np

from mama.exchange.metrics import BINS, LABELS, METHODS, Cell, EvaluationCounts, LabelCounts

# Minimal number of units of a class, and of others: with fewer, a single answer decides a figure.
MINIMUM = 3
TOO_FEW = "no site has enough labelled test studies of each class"


class Curve:
    """Scores of one class against the rest: positives and negatives per fine bin, unmasked.

    If a label of the class is kept with probability a, and any other becomes this class with b,
    masked counts of (p, n) true ones have the expectation (a p + b n, (1 - a) p + (1 - b) n).
    Solving for (p, n) unmasks them; a bin may then be negative.

    Args:
        cells: merged cells of the masked scores.
        kept: a, the probability that a label is kept.
        moved: b, the probability that it moves to a given other class.
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
        # Unmasking counts a unit partly on both sides; it must not form a pair with itself.
        self.own_pairs = (
            -(
                (1 - moved) * (1 - kept) * float(positives.sum())
                + moved * kept * float(negatives.sum())
            )
            / gap**2
        )
        self.smallest_side = MINIMUM if moved else 0

    def __add__(self, other: "Curve") -> "Curve":
        total = Curve([])
        total.positives = self.positives + other.positives
        total.negatives = self.negatives + other.negatives
        total.own_pairs = self.own_pairs + other.own_pairs
        total.cells = self.cells + other.cells
        total.smallest_side = max(self.smallest_side, other.smallest_side)
        return total

    def auc(self) -> float | None:
        """Return the area under the ROC curve; pairs inside one cell count one half.

        None if there is a single cell, or too few units of a side after unmasking.
        """
        positives, negatives = float(self.positives.sum()), float(self.negatives.sum())
        if self.cells < 2 or min(positives, negatives) <= self.smallest_side:
            return None
        below = np.cumsum(self.negatives) - self.negatives
        ranked = float((self.positives * (below + self.negatives / 2)).sum())
        area = (ranked - self.own_pairs / 2) / (positives * negatives - self.own_pairs)
        return min(max(area, 0.0), 1.0)


def cells_auc(cells: Iterable[Cell]) -> float | None:
    """Return the area under the ROC curve of binned counts, also of sites whose cells differ.

    Each cell is spread evenly over its fine bins. None as in `Curve.auc`.
    """
    return Curve(cells).auc()


def rates_of(counts: LabelCounts) -> tuple[float, float]:
    """Return `kept` and `moved` among the large classes, without units moved to a small one."""
    dropped = sum(recall is None for recall in counts.recalls.values())
    remaining = 1 - dropped * counts.moved
    return min(1.0, counts.kept / remaining), counts.moved / remaining


def site_auc(counts: LabelCounts) -> float | None:
    """Return one site's AUC, the mean over its classes with enough units."""
    areas = [Curve(cells, *rates_of(counts)).auc() for cells in counts.histograms.values() if cells]
    present = [area for area in areas if area is not None]
    return float(np.mean(present)) if present else None


def summary(
    answers: Mapping[str, EvaluationCounts], no_figure_reason: str = TOO_FEW
) -> dict[str, dict[str, dict[str, object]]]:
    """Return figures by method and label over all sites, with each site's AUC.

    `auc` is the mean of the sites' own AUCs, in which a model gains nothing by telling vendors
    apart. `auc_pooled` is the AUC of the summed histograms, `balanced_accuracy` the mean recall of
    the summed counts, `classes` the numbers of units behind them. Where sites masked their labels,
    the figures are unmasked; those of a site with few units can be far off.

    Args:
        answers: counts by site.
        no_figure_reason: reason to report where there is no figure.
    """
    result: dict[str, dict[str, dict[str, object]]] = {}
    counted = {method for answer in answers.values() for method in answer.counts}
    for method in (method for method in METHODS if method in counted or not counted):
        for label in LABELS:
            counts = {
                site: answer.counts[method][label]
                for site, answer in sorted(answers.items())
                if label in answer.counts.get(method, {})
            }
            result.setdefault(method, {})[label] = _label_summary(counts, no_figure_reason)
    return result


def _label_summary(counts: Mapping[str, LabelCounts], no_figure_reason: str) -> dict[str, object]:
    areas = {site: site_auc(count) for site, count in counts.items()}
    present = [area for area in areas.values() if area is not None]
    units = _units(list(counts.values()))
    if not present or sum(count >= MINIMUM for count in units.values()) < 2:
        return {
            "auc": None,
            "balanced_accuracy": None,
            "classes": units,
            "reason": no_figure_reason,
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
    """Return units per class as masked by the sites, of the classes with enough units there."""
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
