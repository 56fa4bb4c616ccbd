"""Tissue tokens: find the patches that contain breast and pack a batch to them.

At least half of a canvas is background. A tower that skips background patches computes less and
does not have to represent empty patches. Images keep different numbers of patches, so a batch is
one packed sequence instead of a padded one.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from mama.losses.matching import at_least_fp32

BACKGROUND = -1.0
ROUNDED = 256


class Packing(NamedTuple):
    """Layout of the S kept tokens of N images, concatenated: each image's prefix, then its patches.

    `rows` (S,) int64 are their indices among all tokens of all images, `owner` (S,) int64 their
    images, `patches` (sum P,) int64 the positions of patches in the packed sequence. `starts` (N +
    1,) int32 are the positions of the images' first tokens, and S. `lengths` are the numbers of
    tokens per image and `counts` (N,) int64, on the CPU, the numbers of patches per image.
    `longest` is the largest length, rounded up so that compiled code meets few values.
    """

    rows: Tensor
    owner: Tensor
    patches: Tensor
    starts: Tensor
    lengths: list[int]
    counts: Tensor
    longest: int


def tissue_patches(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return which patches contain tissue.

    Args:
        images: (N, 1, H, W) float; background is exactly -1.
        grid: rows and columns of patches.

    Returns:
        (N, P) bool, in row-major order of the grid.
    """
    return adaptive_max_pool2d(images, grid).flatten(1) > BACKGROUND


@torch.compiler.disable  # the result's shape depends on pixels
def pack(kept: Tensor, prefix: int, device: torch.device) -> Packing:
    """Return the packing of the kept patches and of all `prefix` tokens per image.

    Args:
        kept: (N, P) bool, on the CPU.
        prefix: number of tokens before the patches.
        device: device of the packing, which is not waited for.
    """
    tokens = torch.cat([kept.new_ones(len(kept), prefix), kept], dim=1)
    image, position = tokens.nonzero(as_tuple=True)
    lengths = tokens.sum(1)
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    patches = (position >= prefix).nonzero().squeeze(1)
    return Packing(
        rows=(image * tokens.shape[1] + position).to(device, non_blocking=True),
        owner=image.to(device, non_blocking=True),
        patches=patches.to(device, non_blocking=True),
        starts=starts.int().to(device, non_blocking=True),
        lengths=lengths.tolist(),
        counts=kept.sum(1),
        longest=-(-max(lengths.tolist(), default=0) // ROUNDED) * ROUNDED,
    )


def mean_of(tokens: Tensor, packing: Packing) -> Tensor:
    """Return each image's mean token, (S, D) to (N, D), in at least fp32."""
    tokens = at_least_fp32(tokens)
    sums = tokens.new_zeros(len(packing.lengths), tokens.shape[1])
    return sums.index_add(0, packing.owner, tokens) / packing.starts.diff().unsqueeze(1)


def maximum_of(tokens: Tensor, packing: Packing) -> Tensor:
    """Return each image's channel-wise maximum over tokens, (S, D) to (N, D), in at least fp32."""
    tokens = at_least_fp32(tokens)
    index = packing.owner.unsqueeze(1).expand_as(tokens)
    largest = tokens.new_zeros(len(packing.lengths), tokens.shape[1])
    return largest.scatter_reduce(0, index, tokens, "amax", include_self=False)
