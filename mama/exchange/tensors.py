"""Tensors of a model: trained ones are exchanged as named float32 arrays, local ones never."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from mama.errors import ModelError
from mama.exchange.arrays import Arrays, check_arrays

# Patterns of strategy.local.
Patterns = Sequence[str]


def is_local(name: str, local: Patterns) -> bool:
    """Return True if a tensor stays at the site."""
    return any(fnmatchcase(name, pattern) for pattern in local)


def trained_arrays(model: nn.Module, local: Patterns = ()) -> Arrays:
    """Return float32 copies of the exchanged parameters by name, without frozen and local ones.

    Raises:
        ModelError: the model has running statistics that are not local; they are not parameters
            and differ by site.
    """
    running = [name for name, _ in model.named_buffers() if name.endswith("running_mean")]
    shared = [name for name in running if not is_local(name, local)]
    if shared:
        raise ModelError(
            "keeps running statistics (BatchNorm), which cannot be averaged over sites",
            where=shared[0].removesuffix(".running_mean"),
            fix="Set heads.norm: layer, list it in strategy.local, or train on one dataset with "
            "`mama train`",
        )
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, parameter in _shared(model, local).items()
    }


def trained_shapes(model: nn.Module, local: Patterns = ()) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the exchanged parameters by name."""
    return {name: tuple(p.shape) for name, p in _shared(model, local).items()}


def put_trained(model: nn.Module, arrays: Mapping[str, np.ndarray], local: Patterns = ()) -> None:
    """Set the trained parameters except local ones.

    Raises:
        ProtocolError: the arrays are not exactly these parameters, or not finite.
    """
    trained = _shared(model, local)
    check_arrays(arrays, trained_shapes(model, local))
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name])))


def local_tensors(model: nn.Module, local: Patterns) -> dict[str, Tensor]:
    """Return CPU copies of the trained parameters and buffers that stay at the site."""
    return {name: tensor.detach().cpu().clone() for name, tensor in _local(model, local).items()}


def put_local(model: nn.Module, tensors: Mapping[str, Tensor], local: Patterns) -> None:
    """Restore the tensors that stay at the site, as returned by `local_tensors`.

    Raises:
        ModelError: the tensors belong to another model.
    """
    own = _local(model, local)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in own.items()}:
        raise ModelError(
            "local tensors belong to another model", fix="Remove the site's state of this run"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _shared(model: nn.Module, local: Patterns) -> dict[str, nn.Parameter]:
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not is_local(name, local)
    }


def _local(model: nn.Module, local: Patterns) -> dict[str, Tensor]:
    trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {n: t for n, t in (*trained, *model.named_buffers()) if is_local(n, local)}
