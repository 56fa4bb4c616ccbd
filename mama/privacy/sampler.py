"""Draw who takes part in a step: a fresh partition of the slots into groups, and a Poisson sample of the groups."""

import numpy as np

from mama.privacy.entropy import Keystream


class PoissonGroupSampler:
    """Draws each step's groups from the operating system's entropy, for the bound needs the draws to stay secret.

    The partition looks at slots and never at data, so every slot is in exactly one group, which is drawn with
    probability `sample_rate` independently of all others: Poisson sampling, which the accountant assumes.
    Shuffled batches of one size are something else (Chua et al. 2024, arXiv 2403.17673).

    Args:
        slots: size of the roster, a multiple of `group_size`.
    """

    def __init__(self, slots: int, group_size: int, sample_rate: float):
        if slots % group_size:
            raise ValueError("the slots do not make whole groups")
        self.slots, self.group_size, self.sample_rate = slots, group_size, sample_rate

    def draw(self) -> list[list[int]]:
        """The slots of each drawn group; often none."""
        stream = Keystream()
        # The order of random words is a uniform permutation, but for ties of 64 bits.
        groups = np.argsort(stream.words(self.slots)).reshape(-1, self.group_size)
        return groups[stream.chances(len(groups)) < self.sample_rate].tolist()
