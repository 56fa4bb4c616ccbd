"""A model's tensors: the trained ones travel as float32 arrays by name; those that a federation leaves local do not."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from mama.errors import ModelError, ProtocolError

Arrays = dict[str, np.ndarray]
# federation.local
Patterns = Sequence[str]


def is_local(name: str, local: Patterns) -> bool:
    """Whether a tensor stays at the site."""
    return any(fnmatchcase(name, pattern) for pattern in local)


def trained_arrays(model: nn.Module, local: Patterns = ()) -> Arrays:
    """Copies of the trained parameters, float32, by name; neither frozen weights nor local ones travel.

    Raises:
        ModelError: the model keeps running statistics that are not local; they are no parameters and differ by site.
    """
    running = [name for name, _ in model.named_buffers() if name.endswith("running_mean")]
    shared = [name for name in running if not is_local(name, local)]
    if shared:
        raise ModelError(
            "keeps running statistics (BatchNorm), which cannot be averaged over sites",
            where=shared[0].removesuffix(".running_mean"),
            fix="Set heads.norm: layer, name it in federation.local, or train on one dataset with `mama train`",
        )
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, parameter in _shared(model, local).items()
    }


def trained_shapes(model: nn.Module, local: Patterns = ()) -> dict[str, tuple[int, ...]]:
    """The shapes of the trained parameters that travel, by name."""
    return {name: tuple(p.shape) for name, p in _shared(model, local).items()}


def put_trained(model: nn.Module, arrays: Mapping[str, np.ndarray], local: Patterns = ()) -> None:
    """Set the trained parameters but for local ones.

    Raises:
        ProtocolError: the arrays are not exactly these parameters, or not finite.
    """
    trained = _shared(model, local)
    check_arrays(arrays, trained_shapes(model, local))
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name])))


def local_tensors(model: nn.Module, local: Patterns) -> dict[str, Tensor]:
    """Copies, on the CPU, of the trained parameters and the buffers that stay at the site."""
    return {name: tensor.detach().cpu().clone() for name, tensor in _local(model, local).items()}


def put_local(model: nn.Module, tensors: Mapping[str, Tensor], local: Patterns) -> None:
    """Set what stays at the site, as `local_tensors` gave it.

    Raises:
        ModelError: the tensors are of another model.
    """
    own = _local(model, local)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in own.items()}:
        raise ModelError(
            "local tensors of another model", fix="Remove the site's state of this run"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


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


def _shared(model: nn.Module, local: Patterns) -> dict[str, nn.Parameter]:
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not is_local(name, local)
    }


def _local(model: nn.Module, local: Patterns) -> dict[str, Tensor]:
    trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {n: t for n, t in (*trained, *model.named_buffers()) if is_local(n, local)}
