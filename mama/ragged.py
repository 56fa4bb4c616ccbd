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
    whole = packed.new_zeros(mask.numel(), packed.shape[-1])
    # Row by row: masked_scatter looks at every element, which takes eight times as long backward.
    rows = mask.flatten().nonzero().squeeze(1)
    return whole.index_copy(0, rows, packed).unflatten(0, mask.shape), mask
