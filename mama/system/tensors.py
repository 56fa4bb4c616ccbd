"""Tensors and state on disk: safetensors with a JSON header and a checksum, written atomically."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mama.errors import ModelError
from mama.system.files import replacing


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: object = None) -> None:
    """Write named tensors and a JSON value to one file, with the SHA-256 of both.

    Raises:
        OSError: it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state, sort_keys=True)
    # In a single entry, since safetensors writes several in an order that varies between runs.
    metadata = {"state": f"{_sha256(plain, text)} {text}"}
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, metadata=metadata)
        except SafetensorError as error:
            # The system's error, such as a full disk, is only in the text.
            code = re.search(r"\(os error (\d+)\)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], object]:
    """Read a file of `save_tensors`; its pages back the tensors' memory until they are modified.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
            claimed, _, text = file.metadata()["state"].partition(" ")
        state = json.loads(text)
        whole = claimed == _sha256(tensors, text)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, f"weights cannot be read ({type(error).__name__})") from None
    if not whole:
        raise _unreadable(path, "weights are damaged: their checksum does not match")
    return tensors, state


def claimed_state(path: Path) -> object:
    """Return the JSON value of a file of `save_tensors` without reading or verifying its tensors.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "np") as file:
            return json.loads(file.metadata()["state"].partition(" ")[2])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, f"weights cannot be read ({type(error).__name__})") from None


def _unreadable(path: Path, problem: str) -> ModelError:
    fix = "Restore the file from a copy, or use an older checkpoint"
    return ModelError(problem, where=str(path), fix=fix)


def _sha256(tensors: Mapping[str, Tensor], state: str) -> str:
    """Return the digest of a JSON text and of the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(path: Path, model: nn.Module) -> object:
    """Load a model's trained parameters and buffers from a file of `save_tensors`.

    Returns:
        The JSON value of the file.

    Raises:
        ModelError: the file is missing or damaged, or a tensor is missing or of another shape.
    """
    tensors, state = load_tensors(path)
    kept = model.state_dict().keys()
    wanted = {name: buffer for name, buffer in model.named_buffers() if name in kept}
    wanted |= {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, value in wanted.items():
        if name not in tensors or tensors[name].shape != value.shape:
            raise ModelError(
                f"weights belong to another model ({name})",
                where=str(path),
                fix="Give the base models with which the run began",
            )
    model.load_state_dict(tensors, strict=False)
    return state


def save_optimiser(path: Path, optimiser: torch.optim.Optimizer, more: object = None) -> None:
    """Save an optimiser's state tensors, by parameter number and name, and a JSON value."""
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
    """Restore the state saved by `save_optimiser` for the same parameters.

    Returns:
        The JSON value of the file.

    Raises:
        ModelError: the state belongs to other parameters.
    """
    tensors, more = load_tensors(path)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        owner = parameters[int(number)] if int(number) < len(parameters) else None
        if owner is None or (tensor.ndim and tensor.shape != owner.shape):
            raise ModelError(
                "optimiser state belongs to another model",
                where=str(path),
                fix="Remove the file",
            )
        state.setdefault(int(number), {})[name] = tensor
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
    return more
