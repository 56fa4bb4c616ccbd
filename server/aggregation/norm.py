"""Norm of an update; it is finite only if all values are."""

import math

import numpy as np

from mama.exchange.arrays import Arrays

CHUNK = 2**18


def update_norm(update: Arrays) -> float:
    """Return the L2 norm of all tensors of an update, to a relative error of about 1e-7.

    Reads each value once, a small part of the cost of `isfinite`: the norm is NaN or infinite if a
    value is, and infinite above 1e19, where a float32's square ends. It must be known *before* an
    update is folded, because a sum does not forget a NaN; folding that computes it on the way would
    save a sixth (docs/benchmarks.md).

    Args:
        update: float32 arrays by name.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(sum(_square(array.reshape(-1)) for array in update.values()))


def _square(flat: np.ndarray) -> float:
    """Chunks' float32 products are summed in float64."""
    parts = (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))
    return sum(float(np.dot(part, part)) for part in parts)
