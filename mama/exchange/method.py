"""What travels in a federation: the trained tensors, less what its method keeps local, and SCAFFOLD's control variates.

Variates travel beside the model, in the same blocks, under their parameters' names after `VARIATE`.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

import numpy as np
from torch import nn

from mama.config_federation import FederationConfig
from mama.errors import ConfigError
from mama.exchange.arrays import Arrays
from mama.exchange.tensors import trained_arrays, trained_shapes

VARIATE = "variate/"  # no parameter's name has a slash

Value = TypeVar("Value")


def initial_arrays(model: nn.Module, config: FederationConfig) -> Arrays:
    """What a federation starts from: the model's trained tensors that travel, and variates of 0.

    Raises:
        ConfigError: a pattern of `local` or `freeze` names no trained tensor, or nothing is left to travel.
    """
    arrays = trained_arrays(model, config.local)
    trained = [*trained_shapes(model), *(name for name, _ in model.named_buffers())]
    wanted = [("local", pattern) for pattern in config.local]
    wanted += [("freeze", frozen.pattern) for frozen in config.freeze]
    for key, pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in trained):
            raise ConfigError(
                f"no trained tensor is named like {pattern!r}",
                where=f"federation.{key}",
                fix=f"Names are like {trained[0]!r}",
            )
    if not arrays:
        raise ConfigError("every trained tensor is local", where="federation.local")
    if config.scaffold:
        arrays |= {VARIATE + name: np.zeros_like(array) for name, array in arrays.items()}
    return arrays


def travelling_shapes(model: nn.Module, config: FederationConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of what a server sends to sites."""
    shapes = trained_shapes(model, config.local)
    if config.scaffold:
        shapes |= {VARIATE + name: shape for name, shape in shapes.items()}
    return shapes


def of_round(named: Mapping[str, Value], config: FederationConfig, number: int) -> dict[str, Value]:
    """What of the travelling tensors a site trains and returns in a round, counted from 1: all but the frozen."""
    frozen = [f.pattern for f in config.freeze if number < f.until_round]
    return {
        name: value
        for name, value in named.items()
        if not any(fnmatchcase(name.removeprefix(VARIATE), pattern) for pattern in frozen)
    }


def split(named: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """The model's own tensors, and the variates by their parameters' names."""
    model = {n: value for n, value in named.items() if not n.startswith(VARIATE)}
    variates = {
        n.removeprefix(VARIATE): value for n, value in named.items() if n.startswith(VARIATE)
    }
    return model, variates
