"""The weighted mean."""

from math import prod

import numpy as np
from torch import Tensor

from mama.errors import QuorumError
from mama.exchange.tensors import Arrays
from server.aggregation.base import Shapes, as_tensors, shared


class WeightedMean:
    """sum_i w_i u_i / sum_i w_i, summed as the updates arrive: memory is one model, however many sites there are.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    algorithm 1, with w_i the number of examples.

    The sums are float32, off by about 3e-7 of the result; float64 would cost twice the memory for nothing that
    training notices. Their last bits depend on the order of folding: fold in a fixed order of sites where a run must
    repeat to the bit.
    """

    def __init__(self, shapes: Shapes):
        # One array, and numpy's, whose memory comes in huge pages: folding is bound by memory, and faster there.
        flat = np.zeros(sum(prod(shape) for shape in shapes.values()), np.float32)
        self._sums = as_tensors(flat, shapes)
        self._weight = 0.0

    def fold(self, site: str, update: Arrays, weight: float) -> None:
        """Add an update, in place."""
        for name, total in self._sums.items():
            total.add_(shared(update[name]), alpha=weight)
        self._weight += weight

    def result(self) -> dict[str, Tensor]:
        """The mean, in the memory of the sums.

        Raises:
            QuorumError: there was no update.
        """
        if not self._weight:
            raise QuorumError("no update to average")
        return {name: total.div_(self._weight) for name, total in self._sums.items()}

    def close(self) -> None:
        """Let go of the sums."""
        self._sums = {}
