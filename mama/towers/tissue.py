"""Tissue tokens: which patches of an image hold breast, and the batch packed to them.

Half and more of a canvas is background. A tower that leaves those patches out computes less and is not asked to
describe nothing. Images keep different numbers of patches, so a batch is one packed sequence, not a padded one.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

BACKGROUND = -1.0


class Packing(NamedTuple):
    """How the kept tokens of N images lie one after another, S in all: each image's prefix, then its patches.

    `rows` (S,) int64 are their rows among all tokens of all images, `owner` (S,) int64 the images they belong
    to, `patches` (sum P,) int64 the rows of this sequence that are patches; `lengths` are each image's tokens
    and `counts` (N,) int64, on the CPU, each image's patches.
    """

    rows: Tensor
    owner: Tensor
    patches: Tensor
    lengths: list[int]
    counts: Tensor


def tissue_patches(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which patches hold tissue.

    Args:
        images: (N, 1, H, W) float; background is exactly -1.
        grid: rows and columns of patches.

    Returns:
        (N, P) bool, row by row of the grid.
    """
    return adaptive_max_pool2d(images, grid).flatten(1) > BACKGROUND


@torch.compiler.disable  # what it returns depends on pixels
def pack(kept: Tensor, prefix: int) -> Packing:
    """The packing of the kept patches (N, P) bool and `prefix` further tokens an image, which all stay."""
    device, kept = kept.device, kept.cpu()
    tokens = torch.cat([kept.new_ones(len(kept), prefix), kept], dim=1)
    image, place = tokens.nonzero(as_tuple=True)
    return Packing(
        rows=(image * tokens.shape[1] + place).to(device),
        owner=image.to(device),
        patches=(place >= prefix).nonzero().squeeze(1).to(device),
        lengths=tokens.sum(1).tolist(),
        counts=kept.sum(1),
    )


def mean_of(tokens: Tensor, packing: Packing) -> Tensor:
    """Each image's mean token: (S, D) to (N, D), in fp32 at least."""
    tokens = _wide(tokens)
    sums = tokens.new_zeros(len(packing.lengths), tokens.shape[1])
    lengths = torch.tensor(packing.lengths, device=tokens.device, dtype=tokens.dtype)
    return sums.index_add(0, packing.owner, tokens) / lengths.unsqueeze(1)


def maximum_of(tokens: Tensor, packing: Packing) -> Tensor:
    """The largest value of each channel among an image's tokens: (S, D) to (N, D), in fp32 at least."""
    tokens = _wide(tokens)
    index = packing.owner.unsqueeze(1).expand_as(tokens)
    largest = tokens.new_zeros(len(packing.lengths), tokens.shape[1])
    return largest.scatter_reduce(0, index, tokens, "amax", include_self=False)


def _wide(tokens: Tensor) -> Tensor:
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))
