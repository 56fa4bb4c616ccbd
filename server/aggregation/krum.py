"""Krum and multi-Krum: the updates that lie closest to most others."""

from pathlib import Path

import numpy as np
from torch import Tensor

from mama.config_aggregation import KrumConfig
from server.aggregation.base import Shapes
from server.aggregation.distances import squared_distances
from server.aggregation.spool import Spooled


class Krum(Spooled):
    """The update u_i with the least score s_i, or the mean of the N - f - 2 with the least scores (multi-Krum):

        s_i = sum of ||u_i - u_j||^2 over the N - f - 2 other updates closest to u_i

    Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    NeurIPS 2017, section 4. Withstands up to f bad sites of N >= 2f + 3 that are otherwise alike. Where they differ by
    nature, Krum follows one of them and leaves the others unheard.
    """

    def __init__(self, shapes: Shapes, folder: Path, config: KrumConfig):
        super().__init__(shapes, folder, config.minimum_sites)
        self._config = config

    def combine(self) -> dict[str, Tensor]:
        """See the class."""
        distances = squared_distances(self.blocks())
        close = len(distances) - self._config.byzantine - 2
        chosen = 1 if self._config.kind == "krum" else close
        # Stable, so that of equal scores the first site's counts.
        best = np.argsort(scores(distances, close), kind="stable")[:chosen]
        weights = np.zeros(len(distances))
        weights[best] = 1 / chosen
        return self.mean(weights)


def scores(distances: np.ndarray, close: int) -> np.ndarray:
    """(N,) sums of each row's `close` smallest of (N, N) squared distances, the one to itself left out."""
    others = distances + np.diag(np.full(len(distances), np.inf))
    return np.sort(others, axis=1)[:, :close].sum(1)
