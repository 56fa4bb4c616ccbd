"""The geometric median: the point with the least sum of distances to all updates."""

import numpy as np
from torch import Tensor

from server.aggregation.distances import squared_distances
from server.aggregation.spool import Spooled

SMOOTHING = 1e-6
TOLERANCE = 1e-10
ITERATIONS = 1000


class GeometricMedian(Spooled):
    """z that minimises sum_i w_i ||z - u_i||, by the smoothed Weiszfeld algorithm:

        b_i = w_i / max(nu, ||z - u_i||),  z = sum_i b_i u_i / sum_i b_i,  from z = the weighted mean

    Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE TSP 2022, algorithm 2. Withstands bad
    sites with less than half of the weight; weights are what the sites claim, so it is safest with `uniform`.
    """

    def combine(self) -> dict[str, Tensor]:
        """Two readings of the updates: every z is a mean of them, so distances between them are enough to go on."""
        return self.mean(shares(squared_distances(self.blocks()), self.weights))


def shares(distances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N,) shares s, summing to 1, of the updates in their geometric median sum_i s_i u_i.

    With z = sum_j s_j u_j and D the (N, N) squared distances, ||z - u_i||^2 = (D s)_i - s'Ds / 2.
    """
    share = weights / weights.sum()
    for _ in range(ITERATIONS):
        spread = distances @ share
        away = np.sqrt(np.maximum(spread - share @ spread / 2, 0))
        new = weights / np.maximum(away, SMOOTHING)
        new /= new.sum()
        if np.abs(new - share).max() < TOLERANCE:
            return new
        share = new
    return share
