"""Helpers of the quality benchmarks: bootstrap intervals, hardware description, final line."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

DRAWS = 2000


def paired_interval(
    statistic: Callable[[np.ndarray], float], groups: Sequence[str], draws: int = DRAWS
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of `statistic(rows)`, resampling groups (patients)."""
    names = sorted(set(groups))
    rows_of = {name: np.flatnonzero(np.asarray(groups) == name) for name in names}
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        drawn = rng.choice(len(names), len(names))
        value = statistic(np.concatenate([rows_of[names[i]] for i in drawn]))
        if np.isfinite(value):
            values.append(value)
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def hardware() -> dict[str, Any]:
    """Describe the machine of the measurement."""
    return {
        "processors": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def last_line(result: dict[str, Any]) -> None:
    """Print the result as one JSON object, the benchmark's last line."""
    print(json.dumps({**result, "hardware": hardware()}))
