"""Coordinate-wise trimmed mean."""

from pathlib import Path

import numpy as np
from torch import Tensor

from mama.config.strategy import TrimmedMeanConfig
from server.aggregation.base import Shapes
from server.aggregation.robust.median import by_coordinate
from server.aggregation.robust.spool import Spooled


class TrimmedMean(Spooled):
    """Coordinate-wise mean without the k largest and k smallest values, k = floor(trim N).

    Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018, definition 2. Withstands up to k bad sites.
    """

    def __init__(self, shapes: Shapes, folder: Path, config: TrimmedMeanConfig):
        super().__init__(shapes, folder, config.minimum_sites)
        self._config = config

    def combine(self) -> dict[str, Tensor]:
        """See the class."""
        return self.over_blocks(self._trimmed)

    def _trimmed(self, block: np.ndarray) -> np.ndarray:
        sites = len(block)
        away = self._config.trimmed(sites)
        return by_coordinate(block)[:, away : sites - away].mean(1, dtype=np.float64)
