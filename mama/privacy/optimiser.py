"""DP-SGD over groups: clip each group's gradient, add noise to the sum, divide by a constant.

Wrapping a contrastive loss in Opacus' `PrivacyEngine` clips per study, but a study's gradient
depends on the whole batch: removing one patient changes all gradients, and the reported epsilon is
wrong. Here the unit is the group over which the whole loss is computed, and each patient is in only
one group.
"""

import torch
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from torch import Tensor

from mama.privacy.noise import add_gaussian
from mama.training.distributed import buckets, flat

# Keeps the clipped norm below the bound despite rounding.
_MARGIN = 1 - 1e-6


class GroupwiseDPOptimizer(DPOptimizerFastGradientClipping):
    """Opacus' DP step on a noised sum of clipped group gradients.

    With z = `noise_multiplier` and C = `max_grad_norm`, a step adds noise of standard deviation z C
    to the sum. Its cost is that of Opacus' accountants for (z, q), because at most one group
    differs: one removed patient, whose group then contributes 0. All gradients are fp32; memory
    does not grow with the number of groups.

    Args:
        optimizer: the wrapped optimiser.
        noise_multiplier: z.
        max_grad_norm: C.
        expected_groups: q G, the constant divisor. The number of groups drawn would reveal the
            draw.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_groups: float,
    ):
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_groups,
            # Opacus' name for dividing the sum by the expected number of groups.
            loss_reduction="mean",
        )

    def add_group(self, loss: Tensor) -> None:
        """Add the clipped gradient of one group's loss; silently skip one that is not finite.

        Args:
            loss: scalar, the whole objective on the group.
        """
        parameters = self.params
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        factor = self._factor([g for g in gradients if g is not None])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.summed_grad is None:
                parameter.summed_grad = _zeros(parameter)
            # Not by the factor alone: 0 times infinity is not 0.
            usable = torch.where(factor > 0, gradient.float(), 0)
            parameter.summed_grad.addcmul_(usable, factor)

    def accumulate(self) -> None:
        """Set the sums that no group contributed to to 0, so that they get noise too.

        Called by `step` before the noise; the other sums are already complete.
        """
        for parameter in self.params:
            if parameter.summed_grad is None:
                parameter.summed_grad = _zeros(parameter)

    def add_noise(self) -> None:
        """Add noise to the sums in place and make them the gradients.

        Replaces Opacus' own noise, whose support is bounded.
        """
        # In large pieces: on a GPU, the noise of a small tensor costs as much as that of a million.
        for bucket in buckets(self.params):
            total = flat([p.summed_grad for p in bucket])
            for parameter in bucket:
                # A sum is used only once; the next one starts at 0.
                parameter.summed_grad = None
            add_gaussian(total, self.noise_multiplier * self.max_grad_norm)
            parts = total.split([p.numel() for p in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def _factor(self, gradients: list[Tensor]) -> Tensor:
        """Return the clipping factor of a group's gradient; 0 if the result would not be finite.

        A float32 scalar on the gradients' device, which is not waited for.
        """
        if not gradients:
            return torch.zeros(())
        # In float64, squares of float32 neither overflow nor lose precision in the sum.
        squares = [torch.linalg.vector_norm(g, dtype=torch.float64) ** 2 for g in gradients]
        norm = torch.stack(squares).sum().sqrt()
        factor = (self.max_grad_norm * _MARGIN / norm).clamp(max=1)
        # Below float32's smallest normal number, the factor itself might be rounded up.
        usable = norm.isfinite() & (norm > 0) & (factor >= torch.finfo(torch.float32).tiny)
        return torch.where(usable, factor, 0).float()


def _zeros(parameter: Tensor) -> Tensor:
    """Return zeros in float32 and contiguous memory, whatever the parameter's format."""
    return torch.zeros_like(parameter, dtype=torch.float32, memory_format=torch.contiguous_format)
