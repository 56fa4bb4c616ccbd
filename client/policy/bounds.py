"""Default bounds on an experiment's values and methods, beyond which `policy.allow` is needed.

Outside them an update may depend on a single patient, or reveal the gradient itself; see
docs/security.md for the reasons.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from client.policy.finding import Finding
from mama.config import AugmentConfig, Experiment
from mama.exchange.codes import ErrorCode


class Bound(NamedTuple):
    """The smallest and the largest value of an experiment key."""

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
    # AdamW normalises gradients unless clipping makes them small against its epsilon.
    Bound("optimiser.clip_norm", 0.1, 1e6),
    # With small betas each step reveals the sign or size of a single batch's gradient.
    Bound("optimiser.betas.0", 0.5, 0.99),
    Bound("optimiser.betas.1", 0.9, 0.9999),
    Bound("loss.image_text.weight", 0.01, 10),
    Bound("loss.second_text.weight", 0.01, 10),
    Bound("loss.image_image.weight", 0.01, 10),
    Bound("loss.local.weight", 0.01, 10),
    Bound("loss.view_temperature", 0.05, 10),
    Bound("loss.max_scale", 1, 100),
    Bound("strategy.prox", 0, 10),
    Bound("strategy.server_optimiser.lr", 0, 1),
)
# Keys for which null means no limit; for others it means that the section is absent.
UNLIMITED = ("optimiser.clip_norm",)
# Weaker augmentation leaves the pixels of a view practically unchanged.
LEAST_DEGREES, LEAST_SHIFT, LEAST_SCALE = 1.0, 0.01, 0.02


def review_bounds(experiment: Experiment, allowed: Collection[str]) -> Iterator[Finding]:
    """Yield a finding for each method or value beyond the bounds, or a single passing one.

    Args:
        experiment: the experiment.
        allowed: the site's `policy.allow`.
    """
    beyond = list(_beyond(experiment))
    for rule, limit, requested in beyond:
        by_name = rule in allowed
        text = f"{limit}, or by policy.allow" if by_name else limit
        yield Finding(rule, text, requested, by_name, ErrorCode.POLICY_BOUNDS)
    if not beyond:
        yield Finding(
            "bounds", "default bounds", "within all bounds", True, ErrorCode.POLICY_BOUNDS
        )


def broken(experiment: Experiment) -> list[str]:
    """Return the bounds that the experiment exceeds, as named in `policy.allow`."""
    return [rule for rule, _, _ in _beyond(experiment)]


def moves_views(config: AugmentConfig) -> bool:
    """Return True if the augmentation moves a view by more than its pixels' rounding."""
    return (
        config.rotate_degrees >= LEAST_DEGREES
        or config.shift >= LEAST_SHIFT
        or config.max_scale - config.min_scale >= LEAST_SCALE
        or config.crop <= 1 - LEAST_SCALE
    )


def value_at(experiment: Experiment, key: str) -> float | None:
    """Return the number at a dotted key, None if it or a section on its path is absent."""
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
    """Yield each rule that the experiment breaks, its limit and the experiment's value."""
    strategy = experiment.strategy
    # Both reveal gradients, directly or by calculation.
    if strategy.scaffold:
        yield "scaffold", "off", "on"
    if strategy.guidance:
        yield "guidance", "off", f"{strategy.guidance:g}"
    for key, least, most in BOUNDS:
        value = value_at(experiment, key)
        # A weight of 0 removes the term.
        if value is None and key in UNLIMITED:
            value = math.inf
        left_out = value == 0 and key.endswith(".weight")
        if value is not None and not left_out and not least <= value <= most:
            yield key, f"{least:g} to {most:g}", f"{value:g}"
    if not moves_views(experiment.augment):
        yield "augment", "augmentation that moves the views", "views unchanged"
