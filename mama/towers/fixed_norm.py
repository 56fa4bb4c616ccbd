"""Frozen BatchNorm: a constant scale and shift per channel, the same for any batch and site."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether a model keeps running statistics."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def fix_norms(model: nn.Module) -> None:
    """Replace every BatchNorm of a model by the constant map it computes in evaluation mode."""
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]
    for name, norm in norms:
        model.set_submodule(name, FixedNorm(norm))


class FixedNorm(nn.Module):
    """Per-channel scale and shift of a BatchNorm in evaluation mode, with its activation if any.

    Input and output are (N, C, H, W). Scale and shift are frozen parameters, so that the base
    model's fingerprint covers them.
    """

    def __init__(self, norm: Any):
        super().__init__()
        with torch.no_grad():
            scale = (norm.running_var + norm.eps).rsqrt()
            if norm.weight is not None:
                scale = scale * norm.weight
            shift = -norm.running_mean * scale
            if norm.bias is not None:
                shift = shift + norm.bias
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.shift = nn.Parameter(shift, requires_grad=False)
        # timm's BatchNormAct2d includes its activation.
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, features: Tensor) -> Tensor:
        """Scale and shift each channel."""
        shape = (1, -1) + (1,) * (features.ndim - 2)
        activated: Tensor = self.act(features * self.scale.view(shape) + self.shift.view(shape))
        return activated
