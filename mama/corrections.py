"""What federated optimisation adds to a local gradient, as hooks that the training loop calls and knows nothing of."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Named = Sequence[tuple[str, nn.Parameter]]


class Correction:
    """Changes the gradients in place once a step's are whole, before they are clipped."""

    def __call__(self, parameters: Named) -> None:
        """Correct the gradients of the named parameters."""
        raise NotImplementedError

    def gathered(self) -> dict[str, Tensor]:
        """What it has gathered over the steps so far: part of a training that is resumed."""
        return {}

    def resume(self, gathered: Mapping[str, Tensor]) -> None:
        """Take up what `gathered` gave."""


class Proximal(Correction):
    """FedProx: pull the weights towards the round's global model, adding mu (w - w_global) to the gradient.

    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, section 3.2. Made when the model holds
    the global weights.
    """

    def __init__(self, parameters: Named, mu: float):
        self.mu = mu
        self.anchors = {name: p.detach().clone() for name, p in parameters if p.requires_grad}

    @torch.no_grad()
    def __call__(self, parameters: Named) -> None:
        """Correct the gradients in place."""
        for name, parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.add_(parameter - self.anchors[name], alpha=self.mu)


class ControlVariate(Correction):
    """SCAFFOLD: replace this site's drift by the federation's, adding c - c_site to the gradient.

    Karimireddy et al., "SCAFFOLD", ICML 2020, algorithm 1, line 10.

    Args:
        shift: c - c_site by parameter name; a parameter without one is left alone.
    """

    def __init__(self, shift: Mapping[str, Tensor]):
        self.shift = shift

    @torch.no_grad()
    def __call__(self, parameters: Named) -> None:
        """Correct the gradients in place."""
        for name, parameter in parameters:
            if parameter.grad is not None and name in self.shift:
                parameter.grad.add_(self.shift[name].to(parameter.grad))
