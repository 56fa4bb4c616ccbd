"""What federated optimisation adds to a local gradient, as hooks that the training loop calls and knows nothing of."""

from collections.abc import Collection, Mapping, Sequence

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
    the global weights of these parameters; others are left alone.
    """

    def __init__(self, parameters: Named, mu: float):
        self.mu = mu
        self.anchors = {name: p.detach().clone() for name, p in parameters if p.requires_grad}

    @torch.no_grad()
    def __call__(self, parameters: Named) -> None:
        """Correct the gradients in place."""
        for name, parameter in parameters:
            if parameter.grad is not None and name in self.anchors:
                parameter.grad.add_(parameter - self.anchors[name], alpha=self.mu)


class ControlVariate(Correction):
    """SCAFFOLD: replace this site's drift by the federation's, adding c - c_site to the gradient.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, algorithm 1.

    Args:
        shift: c - c_site by parameter name; a parameter without one is left alone.
    """

    def __init__(self, shift: Mapping[str, Tensor]):
        self.shift = shift
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    @torch.no_grad()
    def __call__(self, parameters: Named) -> None:
        """Correct the gradients in place, and remember what they were."""
        gradients = {n: p.grad for n, p in parameters if p.grad is not None}
        # A step with a gradient that is not finite will be skipped.
        if torch.isfinite(torch.nn.utils.get_total_norm(list(gradients.values()))):
            self._steps += 1
            for name, gradient in gradients.items():
                self._sums.setdefault(name, torch.zeros_like(gradient)).add_(gradient)
        for name, gradient in gradients.items():
            if name in self.shift:
                gradient.add_(self.shift[name].to(gradient))

    def gathered(self) -> dict[str, Tensor]:
        """The sums so far, by parameter name, and the number of steps in them."""
        return {"steps": torch.tensor(self._steps)} | {f"sum.{n}": t for n, t in self._sums.items()}

    def resume(self, gathered: Mapping[str, Tensor]) -> None:
        """Take up the sums, on the devices of `shift`."""
        self._steps = int(gathered["steps"])
        sums = {name.removeprefix("sum."): t for name, t in gathered.items() if name != "steps"}
        self._sums = {
            name: t.to(self.shift[name]) if name in self.shift else t for name, t in sums.items()
        }

    def site_variate(self) -> dict[str, Tensor]:
        """The site's new c_site: the mean over the steps so far of the gradients before their correction.

        It is the paper's option II, c_site - c + (x - y) / (K lr), wherever that one holds: K steps of SGD take the
        weights from x to y = x - lr (K c - K c_site + sum of gradients). AdamW's steps are no multiples of its
        gradients; there the option's formula would give a variate of another size than the gradients it corrects.
        """
        return {name: total / self._steps for name, total in self._sums.items()}


class Frozen(Correction):
    """Leave the named parameters as they are: without a gradient, AdamW neither moves nor decays them."""

    def __init__(self, names: Collection[str]):
        self.names = names

    def __call__(self, parameters: Named) -> None:
        """Drop their gradients."""
        for name, parameter in parameters:
            if name in self.names:
                parameter.grad = None
