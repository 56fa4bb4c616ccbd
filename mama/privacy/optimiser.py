"""A step that hides any one group: each group's gradient clipped as a whole, their sum noised, the divisor a constant.

Wrapping a contrastive loss in Opacus' `PrivacyEngine` clips per study, but a study's gradient depends on the
whole batch: one patient less moves all of them, and the epsilon it reports is wrong. Here the unit is the group
inside which the whole loss is computed, and one patient is in one group alone.
"""

import math

import torch
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from torch import Tensor

from mama.privacy.noise import add_gaussian

# The clipped norm stays below the bound in spite of rounding.
_MARGIN = 1 - 1e-6


class GroupwiseDPOptimizer(DPOptimizerFastGradientClipping):
    """Opacus' step on a noised sum of clipped group gradients.

    With z = `noise_multiplier` and C = `max_grad_norm` a step adds noise of standard deviation z C to the
    sum, so that a step costs what Opacus' accountants say of (z, q) when one group at most differs: one patient
    blanked out, with a group that then contributes 0. All gradients are fp32; memory does not grow with groups.

    Args:
        expected_groups: q G, the constant divisor. The drawn number of groups would tell of the draw.
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
            # Named by Opacus; the sum over groups is divided by their expected number.
            loss_reduction="mean",
        )

    def add_group(self, loss: Tensor) -> None:
        """Add the clipped gradient of one group's loss; one that is not finite adds nothing, without a word.

        Args:
            loss: scalar, the whole objective on the group.
        """
        parameters = self.params
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        factor = self._factor([g for g in gradients if g is not None])
        if not factor:
            return
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.summed_grad is None:
                parameter.summed_grad = _zeros(parameter)
            parameter.summed_grad.add_(gradient.float(), alpha=factor)

    def accumulate(self) -> None:
        """Called by `step` before the noise: the sum is there; what no group touched is 0 and gets noise too."""
        for parameter in self.params:
            if parameter.summed_grad is None:
                parameter.summed_grad = _zeros(parameter)

    def add_noise(self) -> None:
        """Noise the sums where they lie, and make them the gradients; Opacus' own noise has a support that ends."""
        for parameter in self.params:
            add_gaussian(parameter.summed_grad, self.noise_multiplier * self.max_grad_norm)
            # A sum is used once: what is added later starts at 0.
            parameter.grad, parameter.summed_grad = parameter.summed_grad.view_as(parameter), None

    def _factor(self, gradients: list[Tensor]) -> float:
        """What to multiply a group's gradient by; 0 where the result would not be a number."""
        # In double precision, where squares of float32 neither overflow nor add up wrongly.
        squares = [torch.linalg.vector_norm(g, dtype=torch.float64) ** 2 for g in gradients]
        norm = math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0
        if not math.isfinite(norm) or norm == 0:
            return 0.0
        factor = min(1.0, self.max_grad_norm * _MARGIN / norm)
        # Below float32's smallest normal number the factor itself would be rounded, perhaps upwards.
        return factor if factor >= torch.finfo(torch.float32).tiny else 0.0


def _zeros(parameter: Tensor) -> Tensor:
    """A sum to add to, in float32 and in the plain order of memory, whatever the parameter's."""
    return torch.zeros_like(parameter, dtype=torch.float32, memory_format=torch.contiguous_format)
