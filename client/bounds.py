"""The bounds of an experiment at a site: values that ordinary training stays within, and methods that a site names.

Outside them an update can be one patient's, or hold the gradient itself. The reasons are in docs/security.md.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from client.finding import Finding
from mama.config import AugmentConfig, Experiment
from mama.exchange.codes import ErrorCode


class Bound(NamedTuple):
    """The least and the largest value of a key of the experiment."""

    key: str
    least: float
    most: float


BOUNDS = (
    Bound("optimiser.lr", 0, 0.01),
    Bound("text.lora.rank", 1, 64),
    Bound("text.lora.alpha", 1, 128),
    Bound("text.lora.dropout", 0, 0.5),
    Bound("image.lora.rank", 1, 64),
    Bound("image.lora.alpha", 1, 128),
    Bound("image.lora.dropout", 0, 0.5),
    Bound("image.options.drop_path_rate", 0, 0.5),
    # AdamW divides gradients by their size, unless they are so small that its epsilon passes them on as they are.
    Bound("optimiser.clip_norm", 0.1, 1e6),
    # Without memory each step is the sign of one batch's gradient, or its size.
    Bound("optimiser.betas.0", 0.5, 0.99),
    Bound("optimiser.betas.1", 0.9, 0.9999),
    Bound("loss.image_text.weight", 0.01, 10),
    Bound("loss.second_text.weight", 0.01, 10),
    Bound("loss.image_image.weight", 0.01, 10),
    Bound("loss.local.weight", 0.01, 10),
    Bound("loss.view_temperature", 0.05, 10),
    Bound("loss.max_scale", 1, 100),
    Bound("federation.prox", 0, 10),
    Bound("federation.server_optimiser.lr", 0, 1),
)
# Keys whose null is no limit; elsewhere it is a section that is left out.
UNLIMITED = ("optimiser.clip_norm",)
# Smaller changes of a view leave its pixels what they are.
LEAST_DEGREES, LEAST_SHIFT, LEAST_SCALE = 1.0, 0.01, 0.02


def review_bounds(experiment: Experiment, allowed: Collection[str]) -> Iterator[Finding]:
    """A finding for each method and value beyond the bounds, or one that says that there is none.

    Args:
        allowed: the site's `policy.allow`.
    """
    beyond = list(_beyond(experiment))
    for rule, limit, asked in beyond:
        by_name = rule in allowed
        said = f"{limit}, or by policy.allow" if by_name else limit
        yield Finding(rule, said, asked, by_name, ErrorCode.POLICY_BOUNDS)
    if not beyond:
        yield Finding("bounds", "ordinary training", "all kept", True, ErrorCode.POLICY_BOUNDS)


def broken(experiment: Experiment) -> list[str]:
    """The bounds, as `policy.allow` names them, that the experiment does not keep."""
    return [rule for rule, _, _ in _beyond(experiment)]


def moves_views(config: AugmentConfig) -> bool:
    """True if the augmentation turns, shifts, scales or crops a view by more than its pixels' rounding."""
    return (
        config.rotate_degrees >= LEAST_DEGREES
        or config.shift >= LEAST_SHIFT
        or config.max_scale - config.min_scale >= LEAST_SCALE
        or config.crop <= 1 - LEAST_SCALE
    )


def value_at(experiment: Experiment, key: str) -> float | None:
    """The number at a dotted key, None where a section or an option on the way is left out."""
    value: Any = experiment
    for part in key.split("."):
        if isinstance(value, tuple):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            value = getattr(value, part, None)
        if value is None:
            return None
    return float(value)


def _beyond(experiment: Experiment) -> Iterator[tuple[str, str, str]]:
    """Each rule that the experiment breaks, with what is allowed and what it asks."""
    federation = experiment.federation
    # Both send a patient's gradient, or what it follows from.
    if federation.scaffold:
        yield "scaffold", "off", "on"
    if federation.guidance:
        yield "guidance", "off", f"{federation.guidance:g}"
    for key, least, most in BOUNDS:
        value = value_at(experiment, key)
        # A weight of 0 leaves its term out.
        if value is None and key in UNLIMITED:
            value = math.inf
        left_out = value == 0 and key.endswith(".weight")
        if value is not None and not left_out and not least <= value <= most:
            yield key, f"{least:g} to {most:g}", f"{value:g}"
    if not moves_views(experiment.augment):
        yield "augment", "views that are moved", "views as they are"
