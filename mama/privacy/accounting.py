"""Privacy accounting: epsilon of a number of steps, from Opacus' accountants.

Adjacency is *zero-out*: two sets of slots differ in one slot that holds its patient in one and is
empty in the other. Replacing a patient by another is two such steps, so its epsilon is 2 epsilon(d)
at the d for which (1 + exp(epsilon(d))) d = delta (group privacy). A patient of two sites pays both
sites' epsilons.
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp as analysis
from opacus.accountants.utils import get_noise_multiplier

from mama.errors import ConfigError

# Noise multiplier z, sample rate q, and the number of steps with them.
Charge = tuple[float, float, int]

# Opacus' own orders end at 63, which proves no epsilon below log(1/delta) / 62: 0.2 at delta 1e-5.
_ORDERS = [
    *RDPAccountant.DEFAULT_ALPHAS,
    *(64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1536, 2048),
]
_MOST_NOISE = 1e6  # largest noise multiplier that Opacus tries
_SMALLEST = -600.0  # log of the smallest delta tried


@lru_cache(maxsize=64)
def noise_multiplier(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the z at which `steps` steps cost at most `epsilon` (RDP), solved by Opacus.

    Raises:
        ConfigError: the largest noise that the accountant tries is too small.
    """
    try:
        return _solved(epsilon, delta, sample_rate, steps)
    except ValueError:
        least = rdp_epsilon([(_MOST_NOISE, sample_rate, steps)], delta)
        raise ConfigError(
            f"the accountant (RDP, orders to {_ORDERS[-1]}) cannot prove epsilon {epsilon:g} "
            f"for {steps} steps at delta {delta:g} with any noise; "
            f"the smallest epsilon it can prove is {least:.2g}",
            where="privacy.epsilon",
            fix="Raise privacy.epsilon or privacy.delta",
        ) from None


def _solved(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    with warnings.catch_warnings():
        # Opacus warns if the best order is the last one; the bound still holds.
        warnings.simplefilter("ignore")
        return float(
            get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant="rdp",
                epsilon_tolerance=min(0.01, epsilon / 100),
                alphas=_ORDERS,
            )
        )


def rdp_epsilon(charges: Sequence[Charge], delta: float) -> float:
    """Return the epsilon that is reported and enforced.

    Mironov, Talwar, Zhang 2019 (arXiv 1908.10530).
    """
    return _epsilon(_moments(charges), delta) if charges else 0.0


def prv_epsilon(charges: Sequence[Charge], delta: float) -> float | None:
    """Return the tighter epsilon by numerical composition (Gopi, Lee, Wutschitz 2021).

    None if Opacus finds none.
    """
    if not charges:
        return 0.0
    accountant = PRVAccountant()
    accountant.history = list(charges)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            epsilon = float(accountant.get_epsilon(delta=delta))
    except (ValueError, RuntimeError, ArithmeticError, MemoryError):
        return None
    return epsilon if math.isfinite(epsilon) else None


def replace_one_epsilon(charges: Sequence[Charge], delta: float) -> float:
    """Return epsilon for the replacement of one patient by another, in two zero-out steps from RDP.

    Infinite if no bound can be proven.
    """
    if not charges:
        return 0.0
    moments = _moments(charges)

    def holds(log_delta: float) -> bool:
        epsilon = _epsilon(moments, math.exp(log_delta))
        return log_delta + np.logaddexp(0, epsilon) <= math.log(delta)

    # The largest delta that holds has the smallest epsilon; `low` always holds.
    low, high = _SMALLEST, math.log(delta)
    if not holds(low):
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return 2 * _epsilon(moments, math.exp(low))


def _moments(charges: Sequence[Charge]) -> np.ndarray:
    return np.sum([steps * _step_moments(z, q) for z, q, steps in charges], axis=0)


@lru_cache(maxsize=64)
def _step_moments(z: float, q: float) -> np.ndarray:
    return np.asarray(analysis.compute_rdp(q=q, noise_multiplier=z, steps=1, orders=_ORDERS))


def _epsilon(moments: np.ndarray, delta: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epsilon, _ = analysis.get_privacy_spent(orders=_ORDERS, rdp=moments, delta=delta)
    return max(0.0, float(epsilon))
