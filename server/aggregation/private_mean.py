"""Site-level privacy: the models do not reveal whether a site took part.

Each update is clipped as a whole to a fixed norm, all count alike, and Gaussian noise is added once
to their sum (McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR
2018, with every site in every round). The coordinator sees the updates themselves: it is trusted.
Adaptive clipping is not offered, for the norm it learns would have to be noised and paid for too.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mama.config.privacy import PrivacyConfig
from mama.errors import PrivacyError
from mama.exchange.arrays import Arrays
from mama.privacy.accounting import noise_multiplier, rdp_epsilon
from mama.privacy.noise import add_gaussian

# The clipped norm stays below the bound in spite of rounding.
_MARGIN = 1 - 1e-6
_TINY = float(np.finfo(np.float32).tiny)


class NoisedMean:
    """Noised sum of one round's clipped updates, over the number of known sites.

    A site that does not answer counts as a zero, and so does an update that is not finite.
    Adjacency: one site's updates all zero; the sum then moves by `max_grad_norm` at most.

    Args:
        rounds: planned; the noise makes all of them together cost `config.epsilon` at most.
        sites: known to the run in this round, as the number of answers could reveal absent sites.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], config: PrivacyConfig, rounds: int, sites: int
    ):
        self.norm, self.sites = config.max_grad_norm, sites
        self.sigma = self.norm * site_noise(config, rounds)
        self._sums = {name: torch.zeros(shape) for name, shape in sorted(shapes.items())}
        self._folded: set[str] = set()

    def fold(self, site: str, update: Arrays, weight: float = 1.0) -> None:
        """Add an update, clipped; all weigh the same.

        Raises:
            PrivacyError: more sites than the noise was divided by, or one of them twice.
        """
        if site in self._folded or len(self._folded) >= self.sites:
            raise PrivacyError("more updates than sites", where=site)
        self._folded.add(site)
        factor = clipping_factor(update, self.norm)
        if factor:
            for name, total in self._sums.items():
                total.add_(torch.from_numpy(np.array(update[name], dtype=np.float32)), alpha=factor)

    def result(self) -> dict[str, Tensor]:
        """Return the noised mean, float32; once per round, as each draw of noise spends budget."""
        for total in self._sums.values():
            add_gaussian(total, self.sigma)
            total.div_(self.sites)
        return self._sums

    def close(self) -> None:
        """Free the sums."""
        self._sums = {}


def site_noise(config: PrivacyConfig, rounds: int) -> float:
    """Return the noise multiplier of a round, with all sites in each."""
    return noise_multiplier(config.epsilon, config.delta, 1.0, rounds)


def site_epsilon(config: PrivacyConfig, planned: int, done: int) -> float:
    """Return the epsilon spent by `done` of the planned rounds (RDP)."""
    return rdp_epsilon([(site_noise(config, planned), 1.0, done)] if done else [], config.delta)


def clipping_factor(update: Arrays, norm: float) -> float:
    """Return the factor that clips an update to `norm`; 0 if the update is not finite."""
    squares = 0.0
    for array in update.values():
        flat = np.asarray(array, dtype=np.float64).ravel()
        squares += float(flat @ flat)
    if not math.isfinite(squares) or squares == 0:
        return 0.0
    factor = min(1.0, norm * _MARGIN / math.sqrt(squares))
    return factor if factor >= _TINY else 0.0
