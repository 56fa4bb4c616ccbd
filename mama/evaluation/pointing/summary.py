"""Rates over images with 95 % intervals, by a bootstrap over patients."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mama.evaluation.bootstrap import LEAST, as_record, difference, rate
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
    found["hit_rate"] = {n: as_record(rate(v, of)) for n, v in hits.items()}
    found["energy_inside"] = {n: as_record(rate(v, of)) for n, v in energies.items()}
    found["gain_over_brightest"] = {n: as_record(difference(v, of)) for n, v in gains.items()}
    if patients < LEAST:
        found["reason"] = f"no intervals with fewer than {LEAST} patients"
    return found


def _names(scores: Sequence[Score]) -> list[str]:
    """Return the names of all maps, those of the model first."""
    return [OWN, *(name for name in scores[0].hits if name != OWN)]


def _column(figures: Sequence[dict[str, float]], name: str) -> np.ndarray:
    return np.array([one.get(name, np.nan) for one in figures])
