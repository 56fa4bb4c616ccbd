"""Coordinate-wise median."""

import numpy as np
from torch import Tensor

from server.aggregation.robust.spool import Spooled


def by_coordinate(block: np.ndarray) -> np.ndarray:
    """Return the (N, c) values of a block as (c, N), sorted in each row."""
    return np.sort(np.ascontiguousarray(block.T), axis=1)


class Median(Spooled):
    """In every coordinate the middle value, or the mean of the two middle ones of an even number.

    Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018, definition 1. Any minority of sites, whatever it sends, leaves
    each coordinate within the others' range.
    """

    def combine(self) -> dict[str, Tensor]:
        """See the class."""
        return self.over_blocks(_median)


def _median(block: np.ndarray) -> np.ndarray:
    ordered = by_coordinate(block)
    sites = len(block)
    return (ordered[:, (sites - 1) // 2] + ordered[:, sites // 2]) / 2
