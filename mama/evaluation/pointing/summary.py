"""Rates over images with 95 % intervals, by a bootstrap over patients.

Intervals of rates are on the logit scale: they held 0.95 to 0.99 of the true rates in simulated
tests of 10 to 60 patients; on the plain scale 0.88 of rates near 1.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mama.evaluation.bootstrap import LEAST, Estimate, mean_estimate
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
    of = [score.patient for score in scores]
    found["hit_rate"] = {n: _told(rate(v, of)) for n, v in hits.items()}
    found["energy_inside"] = {n: _told(rate(v, of)) for n, v in energies.items()}
    found["gain_over_brightest"] = {n: _told(difference(v, of)) for n, v in gains.items()}
    if patients < LEAST:
        found["reason"] = f"no intervals with fewer than {LEAST} patients"
    return found


def rate(values: np.ndarray, patients: Sequence[str]) -> Estimate | None:
    """Return the mean of shares, with its interval on the logit scale; None without values.

    There is no interval with fewer than LEAST patients or if all draws are alike.

    Args:
        values: (N,) from 0 to 1; NaN where an image has none.
        patients: the patient of each image.
    """
    found = difference(values, patients)
    if found is None or found.low is None or found.high is None:
        return found
    value = found.value
    error = max(value - found.low, found.high - value)  # one end may be cut to 0 or 1
    middle, half = math.log(value / (1 - value)), error / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-end)) for end in (middle - half, middle + half))
    return Estimate(value, low, high)


def difference(values: np.ndarray, patients: Sequence[str]) -> Estimate | None:
    """Return the mean of paired differences, from -1 to 1, with its interval; else as `rate`."""
    present = np.isfinite(values)
    if not present.any():
        return None
    return mean_estimate(values[present], np.asarray(patients)[present].tolist())


def _names(scores: Sequence[Score]) -> list[str]:
    """Return the names of all maps, those of the model first."""
    return [OWN, *(name for name in scores[0].hits if name != OWN)]


def _column(figures: Sequence[dict[str, float]], name: str) -> np.ndarray:
    return np.array([one.get(name, np.nan) for one in figures])


def _told(estimate: Estimate | None) -> dict[str, float | None] | None:
    return estimate._asdict() if estimate else None
