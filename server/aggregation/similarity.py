"""Cosine of an update to the mean of the others, which reveals a broken or hostile site.

Their mean is known only when the last update has come and none of them is kept. So each leaves a
sketch of WIDTH numbers: its values, with random signs, added up in WIDTH buckets (Charikar, Chen &
Farach-Colton 2002). Inner products of sketches are those of the updates, give or take |x||y| /
sqrt(WIDTH), so a cosine is right to about 0.004.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from mama.exchange.arrays import Arrays

WIDTH = 65521  # prime, so that no row length of a tensor puts a whole column into one bucket
SIGNS = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), 2 * WIDTH)


class Sketch:
    """Sketch of one update, whose float32 tensors come in a fixed order."""

    def __init__(self, arrays: Iterable[np.ndarray] = ()):
        self.values = np.zeros(WIDTH, np.float32)
        # Equal for all updates: only so do their sketches compare.
        self._random = np.random.default_rng(1)
        for array in arrays:
            self.add(array)

    def add(self, array: np.ndarray) -> None:
        """Take in the next tensor."""
        flat = array.reshape(-1)
        for start in range(0, flat.size, WIDTH):
            piece = flat[start : start + WIDTH]
            first = self._random.integers(WIDTH)
            self.values[: piece.size] += piece * SIGNS[first : first + piece.size]


def sketch(update: Arrays) -> Sketch:
    """Return the sketch of a whole update."""
    return Sketch(update[name] for name in sorted(update))


def norm(update: Arrays) -> float:
    """Return the Euclidean norm of a whole update."""
    return math.sqrt(sum(float(np.dot(a.reshape(-1), a.reshape(-1))) for a in update.values()))


def cosines_to_others(
    sketches: Mapping[str, Sketch], weights: Mapping[str, float]
) -> dict[str, float | None]:
    """Return each update's cosine to the weighted mean of all others.

    Its own part is left out: with few sites it would make every cosine positive.

    Args:
        sketches: of the updates, by site.
        weights: by site, as in the mean.

    Returns:
        Cosines by site; None without other sites, or where either vector is 0.
    """
    total = np.zeros(WIDTH)
    for site, one in sketches.items():
        total += weights[site] * one.values
    return {
        site: _cosine(one.values, total - weights[site] * one.values) if len(sketches) > 1 else None
        for site, one in sketches.items()
    }


def _cosine(one: np.ndarray, other: np.ndarray) -> float | None:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.clip(np.dot(one, other) / lengths, -1, 1)) if lengths else None
