"""Figures of one map over an image's patches, and maps of rules without a model."""

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d


def hit(values: np.ndarray, inside: np.ndarray) -> float:
    """Return 1 if the largest value lies in a box, else 0; for ties the share of them that do.

    Args:
        values: (rows, columns); NaN where there is none.
        inside: bool (rows, columns), the patches in a box.
    """
    return float(inside[values == np.nanmax(values)].mean())


def energy_inside(values: np.ndarray, inside: np.ndarray) -> float:
    """Return the share of the positive values that lies in a box; 0 if none is positive."""
    positive = np.maximum(np.nan_to_num(values.astype(np.float64)), 0)
    total = positive.sum()
    return float(positive[inside].sum() / total) if total else 0.0


def rules(canvas: torch.Tensor, tissue: np.ndarray) -> dict[str, np.ndarray]:
    """Return maps that need no model, NaN outside the tissue.

    `random` is alike at all patches, so that its hit is the expected one; `centre` is largest
    nearest to the centroid of the tissue, `brightest` at the highest mean intensity.

    Args:
        canvas: (1, H, W) in [-1, 1], background -1.
        tissue: bool (rows, columns), not all false.
    """
    rows, columns = tissue.nonzero()
    # Times the number of patches, so that all numbers are whole and ties exact.
    down = np.arange(tissue.shape[0])[:, None] * len(rows) - rows.sum()
    across = np.arange(tissue.shape[1]) * len(columns) - columns.sum()
    means = adaptive_avg_pool2d(canvas.double(), tissue.shape)[0]
    maps = {
        "random": np.zeros(tissue.shape),
        "centre": -(down**2 + across**2).astype(np.float64),
        "brightest": means.numpy(),
    }
    return {name: np.where(tissue, values, np.nan) for name, values in maps.items()}
