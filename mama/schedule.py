"""The learning rate by global step: linear warm-up, then a cosine to zero."""

import math


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """The rate of `step` in 0..total-1; the warm-up is a fraction of `total` (MaMA, section 3; SGDR, 1608.03983)."""
    first = round(warmup * total)
    if step < first:
        return peak * (step + 1) / first
    done = (step - first) / max(1, total - first)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
