"""Weighted mean."""

from math import prod

import numpy as np
from torch import Tensor

from mama.errors import QuorumError
from mama.exchange.arrays import Arrays
from server.aggregation.base import Shapes, as_tensors, shared


class WeightedMean:
    """Running mean sum_i w_i u_i / sum_i w_i; memory is one model, for any number of sites.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, algorithm 1, with w_i the number of examples.

    The mean is float32, off by about 3e-7 of the result; float64 would cost twice the memory for
    nothing that training notices. Its last bits depend on the order of folding: fold in a fixed
    order of sites where a run must repeat to the bit.
    """

    def __init__(self, shapes: Shapes):
        # One array, and numpy's, whose memory comes in huge pages: folding is bound by memory, and
        # faster there.
        flat = np.zeros(sum(prod(shape) for shape in shapes.values()), np.float32)
        self._means = as_tensors(flat, shapes)
        self._weight = 0.0

    def fold(self, site: str, update: Arrays, weight: float) -> None:
        """Move the mean towards an update, in place."""
        self._weight += weight
        for name, mean in self._means.items():
            mean.lerp_(shared(update[name]), weight / self._weight)

    def result(self) -> dict[str, Tensor]:
        """Return the mean.

        Raises:
            QuorumError: there was no update.
        """
        if not self._weight:
            raise QuorumError("no update to average")
        return self._means

    def close(self) -> None:
        """Free the mean."""
        self._means = {}
