"""Updates: tensors of the model and SCAFFOLD's control variates, which share one block.

In a block a variate has its parameter's name after `VARIATE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

import numpy as np
from torch import nn

from mama.config.strategy import StrategyConfig
from mama.errors import ConfigError
from mama.exchange.arrays import Arrays
from mama.exchange.tensors import trained_arrays, trained_shapes

VARIATE = "variate/"  # no parameter's name has a slash

Value = TypeVar("Value")


@dataclass(frozen=True)
class Update(Generic[Value]):
    """Values of a model's tensors and of its control variates, both by parameter name.

    Values are arrays, torch tensors or shapes; of an update, of a global model or of a step.
    `variates` is empty without SCAFFOLD.
    """

    model: dict[str, Value]
    variates: dict[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, block: Mapping[str, Value]) -> "Update[Value]":
        """Split the values of a block."""
        return cls(
            {name: value for name, value in block.items() if not is_variate(name)},
            {name.removeprefix(VARIATE): v for name, v in block.items() if is_variate(name)},
        )

    def block(self) -> dict[str, Value]:
        """Return the values by their names in a block."""
        return self.model | {VARIATE + name: value for name, value in self.variates.items()}


def is_variate(name: str) -> bool:
    """Return True if a tensor of a block is a control variate."""
    return name.startswith(VARIATE)


def initial_arrays(model: nn.Module, config: StrategyConfig) -> Arrays:
    """Return a federation's initial block: exchanged trained tensors, and variates of 0.

    Raises:
        ConfigError: a pattern of `local` or `freeze` matches no trained tensor, or all are local.
    """
    arrays = trained_arrays(model, config.local)
    trained = [*trained_shapes(model), *(name for name, _ in model.named_buffers())]
    wanted = [("local", pattern) for pattern in config.local]
    wanted += [("freeze", frozen.pattern) for frozen in config.freeze]
    for key, pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in trained):
            raise ConfigError(
                f"no trained tensor matches {pattern!r}",
                where=f"strategy.{key}",
                fix=f"Names are like {trained[0]!r}",
            )
    if not arrays:
        raise ConfigError("every trained tensor is local", where="strategy.local")
    zeros = {name: np.zeros_like(array) for name, array in arrays.items()}
    return Update(arrays, zeros if config.scaffold else {}).block()


def exchanged_shapes(model: nn.Module, config: StrategyConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the block that the server sends to sites."""
    shapes = trained_shapes(model, config.local)
    return Update(shapes, shapes if config.scaffold else {}).block()


def of_round(block: Mapping[str, Value], config: StrategyConfig, number: int) -> dict[str, Value]:
    """Return the values of a block that are trained in a round (from 1): all but the frozen."""
    frozen = [f.pattern for f in config.freeze if number < f.until_round]
    return {
        name: value
        for name, value in block.items()
        if not any(fnmatchcase(name.removeprefix(VARIATE), pattern) for pattern in frozen)
    }
