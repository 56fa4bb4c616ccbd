"""BatchNorm of a frozen tower: a constant scale and shift of each channel, the same for any batch and site."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(model: nn.Module) -> bool:
    """True of a model that keeps running statistics."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def fix_norms(model: nn.Module) -> None:
    """Put the constant that a BatchNorm computes in evaluation in its place, everywhere in a model."""
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]
    for name, norm in norms:
        model.set_submodule(name, FixedNorm(norm))


class FixedNorm(nn.Module):
    """(N, C, H, W) scaled and shifted by channel as a BatchNorm does in evaluation, with its activation if it has one.

    Scale and shift are frozen parameters, so that they are part of the base model's fingerprint.
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
        # timm's BatchNormAct2d brings its activation along.
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, features: Tensor) -> Tensor:
        """Scale and shift each channel."""
        shape = (1, -1) + (1,) * (features.ndim - 2)
        activated: Tensor = self.act(features * self.scale.view(shape) + self.shift.view(shape))
        return activated
