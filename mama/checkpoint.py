"""Tensors and state on disk: safetensors with a JSON header, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mama.errors import ModelError
from mama.files import write_bytes


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: object = None) -> None:
    """Write named tensors and a JSON value in one file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, metadata={"state": json.dumps(state, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], object]:
    """Read what `save_tensors` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        return load(data), json.loads(header["__metadata__"]["state"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ModelError(
            f"weights cannot be read ({type(error).__name__})",
            where=str(path),
            fix="Take an older checkpoint",
        ) from None


def load_weights(path: Path, model: nn.Module) -> object:
    """Put what `save_tensors` wrote of a model's trained parameters and buffers back; returns the JSON value.

    Raises:
        ModelError: the file is missing or damaged, or it lacks a tensor or holds one of another shape.
    """
    tensors, state = load_tensors(path)
    kept = model.state_dict().keys()
    wanted = {name: buffer for name, buffer in model.named_buffers() if name in kept}
    wanted |= {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, value in wanted.items():
        if name not in tensors or tensors[name].shape != value.shape:
            raise ModelError(
                f"weights of another model ({name})",
                where=str(path),
                fix="Give the base models that the run began with",
            )
    model.load_state_dict(tensors, strict=False)
    return state


def save_optimiser(path: Path, optimiser: torch.optim.Optimizer, more: object = None) -> None:
    """Keep an optimiser's state tensors, by parameter number and name, and a JSON value."""
    state = optimiser.state_dict()["state"]
    save_tensors(
        path,
        {
            f"{number}.{name}": torch.as_tensor(value)
            for number, values in state.items()
            for name, value in values.items()
        },
        more,
    )


def load_optimiser(path: Path, optimiser: torch.optim.Optimizer) -> object:
    """Take up the state that `save_optimiser` kept for the same parameters; returns the JSON value.

    Raises:
        ModelError: the state is of other parameters.
    """
    tensors, more = load_tensors(path)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        owner = parameters[int(number)] if int(number) < len(parameters) else None
        if owner is None or (tensor.ndim and tensor.shape != owner.shape):
            raise ModelError(
                "optimiser state of another model", where=str(path), fix="Remove the file"
            )
        state.setdefault(int(number), {})[name] = tensor
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
    return more
