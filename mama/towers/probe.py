"""A look at a loaded tower before it is used: inputs alone and together give equal features, and a gradient."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mama.errors import ModelError
from mama.towers.words import brief

TOLERANCE = 1e-3  # of the largest feature; rounding alone is far below it


def probe(
    tower: nn.Module, encode: Callable[[Sequence[int]], Sequence[Tensor]], where: str
) -> None:
    """Encode two unequal inputs alone and together, and take a gradient; the tower is left as it was.

    Args:
        encode: gives the features of the inputs with these numbers, 0 and 1; rows stand end to end.

    Raises:
        ModelError: the tower fails, mixes inputs, does not tell them apart, or has no finite gradient.
    """
    with _evaluating(tower):
        try:
            with torch.no_grad():
                first, second, together = encode([0]), encode([1]), encode([0, 1])
            gradients = _gradients(tower, encode([0])[0])
        except Exception as error:
            reason = f"cannot encode an example ({type(error).__name__}: {brief(error)})"
        else:
            reason = _fault(first, second, together, gradients)
    if reason:
        raise ModelError(reason, where=where, fix="Choose another tower, or its sound weights")


def _fault(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    together: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> str:
    for one, other, both in zip(first, second, together, strict=True):
        alone = torch.cat([one, other])
        if not all(torch.isfinite(part).all() for part in (alone, both)):
            return "gives features that are not finite"
        allowed = TOLERANCE * float(alone.abs().max()) + 1e-6
        if alone.shape != both.shape or float((alone - both).abs().max()) > allowed:
            return "gives an input other features alone than beside another one"
    if torch.equal(first[0], second[0]):
        return "gives unequal inputs equal features"
    if not all(torch.isfinite(gradient).all() for gradient in gradients):
        return "has a gradient that is not finite"
    if gradients and not any(gradient.any() for gradient in gradients):
        return "has no gradient"
    return ""


def _gradients(tower: nn.Module, features: Tensor) -> list[Tensor]:
    trained = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    if not trained:
        return []
    # Unequal weights: after a norm the plain sum of the channels is a constant.
    weights = torch.linspace(-1, 1, features.shape[-1], device=features.device)
    found = torch.autograd.grad((features * weights).sum(), trained, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


@contextmanager
def _evaluating(tower: nn.Module) -> Iterator[None]:
    """Evaluation mode, and random numbers that nobody else misses."""
    modes = [(module, module.training) for module in tower.modules()]
    tower.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
