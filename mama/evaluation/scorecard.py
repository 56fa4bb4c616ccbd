"""Scorecard of a task: every figure with its interval, by group of units, and against a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mama.data.studies import Study
from mama.errors import ConfigError
from mama.evaluation import Column
from mama.evaluation.bootstrap import Scored, as_record
from mama.evaluation.figures import FIGURES, Classification
from mama.evaluation.pooling import MINIMUM
from mama.evaluation.predictions import Predictions, Unit, metrics

UNKNOWN = "unknown"


def scorecard(predictions: Predictions, other: Predictions | None = None) -> dict[str, Any]:
    """Return the metrics of a task, its `figures` and, with another model's answers, `against`.

    {"n": 96, "classes": {"no": 60, "yes": 36}, "figures": {"auc": {"value": 0.9, "low": 0.8,
    "high": 0.95}, ...}, "by_class": {"auc": {"yes": 0.9}, ...}, "against": {"auc": {"other": 0.8,
    "difference": {"value": 0.1, ...}}, ...}}. A figure that the labels do not allow is None, with
    `reason`; so are `low` and `high` with fewer than 10 patients of a class.

    Raises:
        ConfigError: the two models answer with different classes.
    """
    found, scored = metrics(predictions), Scored(predictions, FIGURES)
    card = {
        "n": found["n"],
        "classes": found["classes"],
        "figures": {name: as_record(scored.estimate(name)) for name in FIGURES},
        "by_class": Classification(predictions, MINIMUM).by_class(),
    }
    if "reason" in found:
        card["reason"] = found["reason"]
    if other is not None:
        card["against"] = _against(scored, Scored(other, FIGURES))
    return card


def grouped(
    predictions: Predictions, studies: Sequence[Study], column: Column
) -> dict[str, dict[str, Any]]:
    """Return the scorecard of each group of units that share a value of a column."""
    names = np.array(groups(predictions.units, studies, column))
    return {
        name: scorecard(_rows(predictions, np.flatnonzero(names == name)))
        for name in sorted(set(names.tolist()))
    }


def groups(units: Sequence[Unit], studies: Sequence[Study], column: Column) -> list[str]:
    """Return the value of a column for each unit, "unknown" where the dataset has none.

    Of `side`, a unit of both breasts is "both".
    """
    if column == Column.VENDOR:
        return [unit.vendor or UNKNOWN for unit in units]
    if column == Column.SIDE:
        sides = [image.laterality for study in studies for image in study.images]
        of_units = [{sides[number] for number in unit.images} for unit in units]
        return [str(found.pop() or UNKNOWN) if len(found) == 1 else "both" for found in of_units]
    values = {
        study.id: study.labels.density if column == Column.DENSITY else study.age
        for study in studies
    }
    return [values[unit.study] or UNKNOWN for unit in units]


def _rows(predictions: Predictions, rows: np.ndarray) -> Predictions:
    units = [predictions.units[row] for row in rows]
    return Predictions(predictions.classes, predictions.probabilities[rows], units)


def _against(scored: Scored, other: Scored) -> dict[str, Any]:
    if scored.classes != other.classes:
        raise ConfigError(
            f"answers with the classes {', '.join(other.classes)}, the model with "
            f"{', '.join(scored.classes)}",
            where="--against",
            fix="Compare models whose experiments have the same classes",
        )
    return {
        name: {
            "other": other.values[name],
            "difference": as_record(scored.gain_over(other, name)),
        }
        for name in FIGURES
    }
