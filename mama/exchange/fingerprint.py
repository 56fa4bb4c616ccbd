"""Model description exchanged before a run, above all the fingerprint of the frozen weights."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.coding import encode
from mama.exchange.protocol import Description


def describe(model: nn.Module) -> Description:
    """Return the fingerprint of the frozen base weights and the parameter counts."""
    trained, frozen = parameter_counts(model)
    return Description(
        fingerprint=fingerprint(model), trained_parameters=trained, frozen_parameters=frozen
    )


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of names, shapes and float32 bytes of all frozen parameters, in hex."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            _add(digest, name, parameter)
    return digest.hexdigest()


def tower_fingerprint(tower: nn.Module) -> str:
    """Return the SHA-256 of all weights of a tower, trained or not, except adapters, in hex."""
    digest = hashlib.sha256()
    for name, parameter in sorted(tower.named_parameters()):
        if "lora_" not in name:
            _add(digest, name, parameter)
    return digest.hexdigest()


def trained_fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of the trained weights in hex, as in their first block of a federation."""
    return arrays_fingerprint(
        {
            name: p.detach().to("cpu", torch.float32).numpy()
            for name, p in model.named_parameters()
            if p.requires_grad
        }
    )


def arrays_fingerprint(arrays: Arrays) -> str:
    """Return the SHA-256 of trained weights given as arrays, in hex."""
    return digest_of(encode(arrays))


def _add(digest: Any, name: str, parameter: Tensor) -> None:
    digest.update(f"{name}{tuple(parameter.shape)}".encode())
    digest.update(parameter.detach().to("cpu", torch.float32).numpy().tobytes())


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of trained and of frozen parameters."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters()) - trained
