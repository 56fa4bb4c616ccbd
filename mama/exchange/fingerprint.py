"""What both sides say of a model before a run: above all the fingerprint of its frozen weights, which never travel."""

import hashlib

import torch
from torch import nn

from mama.exchange.protocol import Description


def describe(model: nn.Module) -> Description:
    """The fingerprint of the frozen base weights, and the parameter counts."""
    trained, frozen = parameter_counts(model)
    return Description(
        fingerprint=fingerprint(model), trained_parameters=trained, frozen_parameters=frozen
    )


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 bytes of all frozen parameters, in hex."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            digest.update(f"{name}{tuple(parameter.shape)}".encode())
            digest.update(parameter.detach().to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Number of trained and of frozen parameters."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters()) - trained
