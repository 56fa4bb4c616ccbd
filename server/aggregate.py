"""From updates to the next global model: a running weighted mean and a torch optimiser on it."""

from pathlib import Path

import numpy as np
import torch

from mama.checkpoint import load_optimiser, save_optimiser
from mama.config import ServerOptimiserConfig
from mama.exchange.tensors import Arrays


class WeightedMean:
    """Running weighted mean of updates, float32 in place: the sum's memory does not grow with sites."""

    def __init__(self) -> None:
        self.weight = 0.0
        self._sums: dict[str, torch.Tensor] = {}

    def fold(self, update: Arrays, weight: float) -> None:
        """Add one update."""
        for name, array in update.items():
            tensor = torch.from_numpy(np.array(array))
            if name in self._sums:
                self._sums[name].add_(tensor, alpha=weight)
            else:
                self._sums[name] = tensor * weight
        self.weight += weight

    def result(self) -> dict[str, torch.Tensor]:
        """The mean; only after at least one update."""
        return {name: total / self.weight for name, total in self._sums.items()}


class ServerOptimiser:
    """torch.optim.SGD with the averaged update as negative gradient.

    lr 1 without momentum is FedAvg (McMahan et al. 2017), with momentum FedAvgM (Hsu et al. 2019).
    """

    def __init__(self, arrays: Arrays, config: ServerOptimiserConfig):
        # Sorted, because the optimiser's state is kept by number and a file's order is not the model's.
        self._parameters = {
            name: torch.from_numpy(np.array(array)) for name, array in sorted(arrays.items())
        }
        self._optimiser = torch.optim.SGD(
            list(self._parameters.values()), lr=config.lr, momentum=config.momentum
        )

    def step(self, mean: dict[str, torch.Tensor]) -> Arrays:
        """Apply a mean update; returns the new global model."""
        for name, parameter in self._parameters.items():
            parameter.grad = -mean[name]
        self._optimiser.step()
        return {name: p.numpy().copy() for name, p in self._parameters.items()}

    def save(self, path: Path) -> None:
        """Keep momentum for a resumed run."""
        save_optimiser(path, self._optimiser)

    def load(self, path: Path) -> None:
        """Take momentum up again."""
        load_optimiser(path, self._optimiser)
