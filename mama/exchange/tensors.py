"""The tensors that travel: the trained ones, as float32 arrays by name, and the difference a site made."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from mama.errors import ModelError, ProtocolError

Arrays = dict[str, np.ndarray]


def trained_arrays(model: nn.Module) -> Arrays:
    """Copies of the trained parameters, float32, by name; frozen weights never travel.

    Raises:
        ModelError: the model keeps running statistics, which are no parameters and would differ by site.
    """
    running = [name for name, _ in model.named_buffers() if name.endswith("running_mean")]
    if running:
        raise ModelError(
            "keeps running statistics (BatchNorm), which cannot be averaged over sites",
            where=running[0].removesuffix(".running_mean"),
            fix="Set heads.norm: layer, or train on one dataset with `mama train`",
        )
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def trained_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of the trained parameters by name."""
    return {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}


def put_trained(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Set the trained parameters.

    Raises:
        ProtocolError: the arrays are not exactly the trained parameters, or not finite.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    check_arrays(arrays, trained_shapes(model))
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name])))


def difference(after: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> Arrays:
    """The update: after minus before."""
    return {name: after[name] - before[name] for name in after}


def check_shapes(
    found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse anything but exactly these names and shapes.

    Raises:
        ProtocolError: names the first of our tensors that differs, never a name from the other side.
    """
    missing, extra = sorted(set(shapes) - set(found)), sorted(set(found) - set(shapes))
    if missing:
        raise ProtocolError("tensor is missing", where=missing[0])
    if extra:
        raise ProtocolError(f"{len(extra)} unexpected tensors")
    for name, shape in shapes.items():
        if found[name] != shape:
            raise ProtocolError("tensor has another shape", where=name)


def check_arrays(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse anything but finite float32 arrays of exactly these names and shapes.

    Raises:
        ProtocolError: names the first of our tensors that differs, never a name from the other side.
    """
    check_shapes({name: array.shape for name, array in arrays.items()}, shapes)
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ProtocolError("tensor is not float32", where=name)
        if not np.isfinite(array).all():
            raise ProtocolError("tensor is not finite", where=name)
