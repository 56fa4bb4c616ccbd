"""Group sampling per step: a fresh partition of the slots, and a Poisson sample of its groups."""

import numpy as np

from mama.privacy.entropy import Keystream


class PoissonGroupSampler:
    """Sampler of a step's groups from the operating system's entropy; the draws must stay secret.

    The partition depends on slots and never on data. Every slot is in exactly one group, which is
    drawn with probability `sample_rate` independently of all others: Poisson sampling, as the
    accountant assumes. Shuffled batches of a fixed size are different (Chua et al. 2024, arXiv
    2403.17673).

    Args:
        slots: number of slots, a multiple of `group_size`.
        group_size: slots per group.
        sample_rate: probability with which a group is drawn.
    """

    def __init__(self, slots: int, group_size: int, sample_rate: float):
        if slots % group_size:
            raise ValueError("the number of slots is not a multiple of the group size")
        self.slots, self.group_size, self.sample_rate = slots, group_size, sample_rate

    def draw(self) -> list[list[int]]:
        """Return the slots of each drawn group; often there is none."""
        stream = Keystream()
        # Sorting random 64-bit words gives a uniform permutation, up to ties.
        groups = np.argsort(stream.words(self.slots)).reshape(-1, self.group_size)
        return groups[stream.uniforms(len(groups)) < self.sample_rate].tolist()
