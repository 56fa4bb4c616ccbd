"""Interface of the aggregation rules."""

import warnings
from collections.abc import Mapping
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mama.exchange.arrays import Arrays

Shapes = Mapping[str, tuple[int, ...]]


class Aggregator(Protocol):
    """Takes one round's updates as they arrive and combines them; made anew each round.

    Updates have passed the checks: they are finite float32 arrays of the agreed names and shapes.
    """

    def fold(self, site: str, update: Arrays, weight: float) -> None:
        """Take an update, which is neither kept nor changed. `weight` is above 0."""

    def result(self) -> dict[str, Tensor]:
        """Return the combined update, float32; once, after the last `fold`.

        Raises:
            QuorumError: too few updates for this rule.
        """

    def close(self) -> None:
        """Free memory and disk, whether there was a result or not."""


def shared(array: np.ndarray) -> Tensor:
    """Return a tensor on the array's own memory, to be read only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arrays that may not be written
        return torch.from_numpy(array)


def as_tensors(flat: np.ndarray, shapes: Shapes) -> dict[str, Tensor]:
    """Split concatenated values (n,) into named tensors, as views."""
    parts = torch.from_numpy(flat).split([prod(shape) for shape in shapes.values()])
    return {
        name: part.view(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }
