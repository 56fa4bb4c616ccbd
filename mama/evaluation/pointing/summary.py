"""Rates over images with 95 % intervals, by a bootstrap over patients."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from mama.evaluation.bootstrap import DRAWS, LEAST, ROUNDING, SEED, Estimate
from mama.evaluation.pointing.score import FRESH, OWN, Score

RULE = "brightest"  # the rule that a model must exceed
FIGURES = ("hit_rate", "energy_inside", "gain_over_brightest")


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the figures of images with boxes, as plain dicts.

    {"images": 84, "patients": 40, "own_sentence_is": {"finding": 80, "most_similar": 4},
    "hit_rate": {"own_sentence": {"value": 0.8, "low": 0.7, "high": 0.9}, ...}, "energy_inside":
    {...}, "gain_over_brightest": {...}}. A gain is the paired difference of hit rates. `reason`
    says why figures, or with few patients their intervals, are None.
    """
    patients = len({score.patient for score in scores})
    found: dict[str, Any] = {
        "images": len(scores),
        "patients": patients,
        "own_sentence_is": dict(Counter(score.chosen for score in scores)),
    }
    if patients < 2:
        reason = "only one patient" if scores else "no image has a box"
        return {**found, **dict.fromkeys(FIGURES), "reason": reason}
    hits = {name: _column([s.hits for s in scores], name) for name in _names(scores)}
    gains = {name: hits[name] - hits[RULE] for name in (OWN, FRESH)}
    energies = {name: _column([s.energies for s in scores], name) for name in (OWN, FRESH)}
    groups = np.unique([score.patient for score in scores], return_inverse=True)[1]
    for figure, columns in zip(FIGURES, (hits, energies, gains), strict=True):
        lowest = -1.0 if columns is gains else 0.0
        found[figure] = {n: _told(mean(v, groups, lowest)) for n, v in columns.items()}
    if patients < LEAST:
        found["reason"] = f"no intervals with fewer than {LEAST} patients"
    return found


def mean(values: np.ndarray, groups: np.ndarray, lowest: float = 0.0) -> Estimate | None:
    """Return the mean with the interval of Student's t; None without values.

    Whole patients are drawn with replacement. There is no interval with fewer than LEAST patients
    or if all draws are alike.

    Args:
        values: (N,), from `lowest` to 1; NaN where an image has none.
        groups: (N,) the patients' numbers.
        lowest: the least value possible.
    """
    present = np.isfinite(values)
    if not present.any():
        return None
    values, (names, group) = values[present], np.unique(groups[present], return_inverse=True)
    value = float(values.mean())
    patients = len(names)
    if patients < LEAST:
        return Estimate(value, None, None)
    sums, counts = np.bincount(group, values), np.bincount(group)
    chance = np.full(patients, 1 / patients)
    weights = np.random.default_rng(SEED).multinomial(patients, chance, size=DRAWS)
    deviation = float(((weights @ sums) / (weights @ counts)).std())
    if deviation <= ROUNDING:
        return Estimate(value, None, None)
    error = float(student.ppf(0.975, patients - 1)) * deviation
    return Estimate(value, max(lowest, value - error), min(1.0, value + error))


def _names(scores: Sequence[Score]) -> list[str]:
    """Return the names of all maps, those of the model first."""
    return [OWN, *(name for name in scores[0].hits if name != OWN)]


def _column(figures: Sequence[dict[str, float]], name: str) -> np.ndarray:
    return np.array([one.get(name, np.nan) for one in figures])


def _told(estimate: Estimate | None) -> dict[str, float | None] | None:
    return estimate._asdict() if estimate else None
