"""Sequences of unlike lengths: packed end to end where work is done a token, padded where it is done a pair."""

import torch
from torch import Tensor


def padded(packed: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Packed sequences side by side.

    Args:
        packed: (sum of counts, C), sequence after sequence.
        counts: (N,) int64 lengths.

    Returns:
        (N, L, C) with L the greatest length, zeros behind each end, and (N, L) bool, true where an entry is real.
    """
    longest = int(counts.max()) if len(counts) else 0
    counts = counts.to(packed.device)
    mask = torch.arange(longest, device=packed.device) < counts[:, None]
    whole = packed.new_zeros(len(counts), longest, packed.shape[-1])
    return whole.masked_scatter(mask.unsqueeze(-1), packed), mask
