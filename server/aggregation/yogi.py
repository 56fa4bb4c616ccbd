"""Yogi, which torch.optim does not have."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Yogi(torch.optim.Optimizer):
    """Yogi: Adam with a bounded change of the second moment.

    With gradient g, the second moment v grows and shrinks by at most (1 - b2) g^2 per step:

        m <- b1 m + (1 - b1) g
        v <- v - (1 - b2) g^2 sign(v - g^2)
        x <- x - lr m / (sqrt(v) + eps)

    from m = 0 and v = eps^2, without bias correction: Reddi et al., "Adaptive Federated
    Optimization", ICLR 2021, algorithm 2 (FedYogi; its tau is eps, its pseudo-gradient is -g).
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient, in place."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.full_like(parameter, group["eps"] ** 2)
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                mean.lerp_(parameter.grad, 1 - first)
                squared = parameter.grad.square()
                square.addcmul_(squared, torch.sign(square - squared), value=second - 1)
                parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-group["lr"])
