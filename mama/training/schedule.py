"""Learning rate schedule: linear warm-up, then cosine decay to zero."""

import math


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Return the rate of `step` in 0..total-1; `warmup` is a fraction of `total`.

    MaMA, section 3; SGDR, arXiv 1608.03983.
    """
    first = round(warmup * total)
    if step < first:
        return peak * (step + 1) / first
    done = (step - first) / max(1, total - first)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
