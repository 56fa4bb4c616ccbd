"""Rates over images with 95 % intervals, by a bootstrap over patients.

As in `mama.evaluation.bootstrap`, draws give a standard error and the interval is Student's.
Those of rates, on the logit scale, held 0.95 to 0.98 of the true rates in simulated tests of 10 to
60 patients; on the plain scale 0.88 near 1.
"""

import math
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
    found["hit_rate"] = {n: _told(rate(v, groups)) for n, v in hits.items()}
    found["energy_inside"] = {n: _told(rate(v, groups)) for n, v in energies.items()}
    found["gain_over_brightest"] = {n: _told(difference(v, groups)) for n, v in gains.items()}
    if patients < LEAST:
        found["reason"] = f"no intervals with fewer than {LEAST} patients"
    return found


def rate(values: np.ndarray, groups: np.ndarray) -> Estimate | None:
    """Return the mean of shares, with its interval on the logit scale; None without values.

    There is no interval with fewer than LEAST patients or if all draws are alike.

    Args:
        values: (N,) from 0 to 1; NaN where an image has none.
        groups: (N,) the patients' numbers.
    """
    value, error = _mean(values, groups)
    if value is None or error is None:
        return None if value is None else Estimate(value, None, None)
    middle, half = math.log(value / (1 - value)), error / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-end)) for end in (middle - half, middle + half))
    return Estimate(value, low, high)


def difference(values: np.ndarray, groups: np.ndarray) -> Estimate | None:
    """Return the mean of paired differences, from -1 to 1, with its interval; else as `rate`."""
    value, error = _mean(values, groups)
    if value is None or error is None:
        return None if value is None else Estimate(value, None, None)
    return Estimate(value, max(-1.0, value - error), min(1.0, value + error))


def _mean(values: np.ndarray, groups: np.ndarray) -> tuple[float | None, float | None]:
    """Return the mean and half its interval by Student's t; whole patients are drawn."""
    present = np.isfinite(values)
    if not present.any():
        return None, None
    values, (names, group) = values[present], np.unique(groups[present], return_inverse=True)
    value, patients = float(values.mean()), len(names)
    if patients < LEAST:
        return value, None
    sums, counts = np.bincount(group, values), np.bincount(group)
    chance = np.full(patients, 1 / patients)
    weights = np.random.default_rng(SEED).multinomial(patients, chance, size=DRAWS)
    deviation = float(((weights @ sums) / (weights @ counts)).std())
    if deviation <= ROUNDING:
        return value, None
    return value, float(student.ppf(0.975, patients - 1)) * deviation


def _names(scores: Sequence[Score]) -> list[str]:
    """Return the names of all maps, those of the model first."""
    return [OWN, *(name for name in scores[0].hits if name != OWN)]


def _column(figures: Sequence[dict[str, float]], name: str) -> np.ndarray:
    return np.array([one.get(name, np.nan) for one in figures])


def _told(estimate: Estimate | None) -> dict[str, float | None] | None:
    return estimate._asdict() if estimate else None
