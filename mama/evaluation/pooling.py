"""Many sites' counts to one figure, at the server."""

from collections.abc import Iterable, Mapping

import numpy as np

from mama.exchange.metrics import BINS, LABELS, METHODS, Cell, EvaluationCounts, LabelCounts

# A figure of a class needs so many units of it and so many others: with fewer a single answer decides it.
MINIMUM = 3
TOO_FEW = "no site has enough labelled test studies of each class"


def cells_auc(cells: Iterable[Cell]) -> float | None:
    """Area under the ROC curve of binned counts, also of several sites whose cells differ.

    Each cell is spread evenly over its fine bins, so pairs inside one cell count one half. None where there
    is nothing to rank: a single cell, or positives or negatives alone.
    """
    cells = list(cells)
    negatives, positives = np.zeros(BINS), np.zeros(BINS)
    for cell in cells:
        width = cell.stop - cell.start
        negatives[cell.start : cell.stop] += cell.negatives / width
        positives[cell.start : cell.stop] += cell.positives / width
    if len(cells) < 2 or not negatives.sum() or not positives.sum():
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / negatives.sum() / positives.sum())


def site_auc(counts: LabelCounts) -> float | None:
    """One site's AUC: the mean over its classes that are large enough."""
    areas = [cells_auc(cells) for cells in counts.histograms.values() if cells]
    present = [area for area in areas if area is not None]
    return float(np.mean(present)) if present else None


def summary(
    answers: Mapping[str, EvaluationCounts], why_none: str = TOO_FEW
) -> dict[str, dict[str, dict[str, object]]]:
    """Figures by method and label over all sites, plus each site's AUC; `why_none` is the reason where there is none.

    `auc` is the mean of the sites' own AUCs: a model that only tells vendors apart gains nothing there.
    `auc_pooled` is that of the summed histograms, `balanced_accuracy` the mean recall of the summed counts,
    `classes` has the units they are made of.
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
        cells = [cell for count in counts for cell in count.histograms.get(name) or []]
        area = cells_auc(cells)
        if area is not None:
            areas.append(area)
    return float(np.mean(areas)) if areas else None


def _units(counts: list[LabelCounts]) -> dict[str, int]:
    """Units by class, of the classes that are large enough at their sites."""
    units: dict[str, int] = {}
    for recalls in (count.recalls for count in counts):
        for name, recall in recalls.items():
            units[name] = units.get(name, 0) + (recall.correct + recall.wrong if recall else 0)
    return dict(sorted(units.items()))


def _balanced_accuracy(counts: list[LabelCounts]) -> float | None:
    recalls = []
    for name in sorted({name for count in counts for name in count.recalls}):
        known = [count.recalls[name] for count in counts if count.recalls.get(name)]
        correct = sum(recall.correct for recall in known if recall)
        total = correct + sum(recall.wrong for recall in known if recall)
        if total:
            recalls.append(correct / total)
    return float(np.mean(recalls)) if recalls else None
