"""Probe of a loaded tower: inputs must not affect each other, and gradients must flow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mama.errors import ModelError
from mama.towers.checks.words import brief

TOLERANCE = 1e-3  # relative to the largest feature; rounding errors are far smaller


def probe(
    tower: nn.Module, encode: Callable[[Sequence[int]], Sequence[Tensor]], where: str
) -> None:
    """Encode two different inputs, separately and together, and compute a gradient.

    The tower is left unchanged.

    Args:
        tower: the tower to probe.
        encode: returns the features of the inputs with these numbers, 0 and 1, concatenated.
        where: the tower's place in error messages.

    Raises:
        ModelError: the tower fails, mixes inputs, maps them to equal features, or has no finite
            gradient.
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
        raise ModelError(reason, where=where, fix="Choose another tower, or undamaged weights")


def _fault(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    together: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> str:
    for one, other, both in zip(first, second, together, strict=True):
        alone = torch.cat([one, other])
        if not all(torch.isfinite(part).all() for part in (alone, both)):
            return "returns features that are not finite"
        allowed = TOLERANCE * float(alone.abs().max()) + 1e-6
        if alone.shape != both.shape or float((alone - both).abs().max()) > allowed:
            return "returns features that depend on the other inputs of the batch"
    if torch.equal(first[0], second[0]):
        return "returns equal features for different inputs"
    if not all(torch.isfinite(gradient).all() for gradient in gradients):
        return "has a gradient that is not finite"
    if gradients and not any(gradient.any() for gradient in gradients):
        return "has no gradient"
    return ""


def _gradients(tower: nn.Module, features: Tensor) -> list[Tensor]:
    trained = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    if not trained:
        return []
    # Different weights, because after a norm the plain sum of the channels is constant.
    weights = torch.linspace(-1, 1, features.shape[-1], device=features.device)
    found = torch.autograd.grad((features * weights).sum(), trained, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


@contextmanager
def _evaluating(tower: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, and preserve the state of the random number generator."""
    modes = [(module, module.training) for module in tower.modules()]
    tower.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
