"""Step from a round's combined update to the next global model."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from mama.config.strategy import AdagradConfig, AdamConfig, ServerOptimiserConfig, SgdConfig
from mama.exchange.arrays import Arrays
from mama.exchange.update import Update
from mama.system.tensors import load_optimiser, save_optimiser
from server.aggregation.yogi import Yogi


class ServerOptimiser:
    """An optimiser of torch on the global model, with the combined update as its negative gradient.

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithms 1 and 2.

    Args:
        arrays: the global model (float32) and SCAFFOLD's variates, if there are any. They are taken
            over: each step changes them in place, so that beside the update and the optimiser's own
            state there is one model in memory.
    """

    def __init__(self, arrays: Arrays, config: ServerOptimiserConfig):
        # Sorted, because the optimiser's state is kept by number and a file's order is not the
        # model's.
        self._tensors = {
            name: torch.from_numpy(np.require(array, requirements=["C", "W"]))
            for name, array in sorted(arrays.items())
        }
        parts = Update.of(self._tensors)
        self._parameters, self._variates = parts.model, parts.variates
        self._optimiser = make_optimiser(list(self._parameters.values()), config)

    def step(self, update: Update[Tensor]) -> Arrays:
        """Apply an update in place and return the new global model.

        The update's tensors are consumed. The model keeps its memory. A tensor without an update
        stays as it is, and so does its momentum. Changes of variates are added as they are.
        """
        for name, change in update.model.items():
            self._parameters[name].grad = change.neg_()
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        for name, change in update.variates.items():
            self._variates[name].add_(change)
        return {name: tensor.numpy() for name, tensor in self._tensors.items()}

    def save(self, path: Path) -> None:
        """Keep the optimiser's state for a resumed run."""
        save_optimiser(path, self._optimiser)

    def load(self, path: Path) -> None:
        """Take the state up again."""
        load_optimiser(path, self._optimiser)


def make_optimiser(
    parameters: Sequence[Tensor], config: ServerOptimiserConfig
) -> torch.optim.Optimizer:
    """FedAvg, FedAvgM, FedAdam, FedAdagrad or FedYogi.

    Adam is torch's, which corrects its moments' start from zero where the paper starts v from
    eps^2.
    """
    match config:
        case SgdConfig():
            return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum)
        case AdamConfig(kind="adam"):
            return torch.optim.Adam(parameters, config.lr, config.betas, config.eps)
        case AdamConfig():
            return Yogi(parameters, config.lr, config.betas, config.eps)
        case AdagradConfig():
            return torch.optim.Adagrad(
                parameters,
                config.lr,
                initial_accumulator_value=config.eps**2,
                eps=config.eps,
            )
        case _:
            assert_never(config)
