"""Gradient hooks of federated optimisation, independent of the training loop that calls them."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

Named = Sequence[tuple[str, nn.Parameter]]


class GradientHook:
    """Hook that modifies a step's complete gradients in place.

    It is called before clipping by length; in private training after the noise.
    """

    def __call__(self, parameters: Named) -> None:
        """Modify the gradients of the named parameters."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """Return the state accumulated over the steps so far, for resuming a training."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""


class Proximal(GradientHook):
    """FedProx: pull the weights towards the global model by adding mu (w - w_global) to gradients.

    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, section 3.2. It must
    be created when the model holds the global weights of these parameters; others are not changed.
    """

    def __init__(self, parameters: Named, mu: float):
        self.mu = mu
        self.anchors = {name: p.detach().clone() for name, p in parameters if p.requires_grad}

    @torch.no_grad()
    def __call__(self, parameters: Named) -> None:
        """Add the proximal term to the gradients."""
        for name, parameter in parameters:
            if parameter.grad is not None and name in self.anchors:
                parameter.grad.add_(parameter - self.anchors[name], alpha=self.mu)


class ControlVariate(GradientHook):
    """SCAFFOLD: correct the site's drift by adding c - c_site to the gradient.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML
    2020, algorithm 1.

    Args:
        shift: c - c_site by parameter name; parameters without an entry are not changed.
    """

    def __init__(self, shift: Mapping[str, Tensor]):
        self.shift = shift
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    @torch.no_grad()
    def __call__(self, parameters: Named) -> None:
        """Correct the gradients, after accumulating their uncorrected values."""
        gradients = {n: p.grad for n, p in parameters if p.grad is not None}
        # A step with a non-finite gradient will be skipped.
        if torch.isfinite(torch.nn.utils.get_total_norm(list(gradients.values()))):
            self._steps += 1
            for name, gradient in gradients.items():
                self._sums.setdefault(name, torch.zeros_like(gradient)).add_(gradient)
        for name, gradient in gradients.items():
            if name in self.shift:
                gradient.add_(self.shift[name].to(gradient))

    def state(self) -> dict[str, Tensor]:
        """Return the sums of gradients by parameter name and their number of steps."""
        return {"steps": torch.tensor(self._steps)} | {f"sum.{n}": t for n, t in self._sums.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore the sums on the devices of `shift`."""
        self._steps = int(state["steps"])
        sums = {name.removeprefix("sum."): t for name, t in state.items() if name != "steps"}
        self._sums = {
            name: t.to(self.shift[name]) if name in self.shift else t for name, t in sums.items()
        }

    def site_variate(self) -> dict[str, Tensor]:
        """Return the site's new c_site: the mean of the uncorrected gradients so far.

        It equals the paper's option II, c_site - c + (x - y) / (K lr), where that applies: K steps
        of SGD move the weights from x to y = x - lr (K c - K c_site + sum of gradients). AdamW's
        steps are not multiples of its gradients; there, option II would give a variate of another
        scale than the gradients it corrects.
        """
        return {name: total / self._steps for name, total in self._sums.items()}


class Frozen(GradientHook):
    """Hook that freezes the named parameters: without gradients, AdamW does not change them."""

    def __init__(self, names: Collection[str]):
        self.names = names

    def __call__(self, parameters: Named) -> None:
        """Drop the gradients of the frozen parameters."""
        for name, parameter in parameters:
            if name in self.names:
                parameter.grad = None
