"""What the losses share: unit vectors, full precision, and the matching of pairs both ways."""

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Autocast off on the tensor's device: a logit of 100 in bf16 is only known to 0.5."""
    return torch.autocast(tensor.device.type, enabled=False)


def widen(tensor: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 if it is so already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., C) at length 1 in at least fp32; zero stays zero, with a finite gradient."""
    return F.normalize(widen(vectors), dim=-1)


def matching_loss(logits: Tensor, same: Tensor | None) -> Tensor:
    """Cross entropy of the rows plus cross entropy of the columns, each a batch mean.

    Args:
        logits: (N, N) float; pair n is row n and column n. N = 0 gives 0.
        same: (N, N) bool, [row, column]; what counts as a match beside the diagonal, which always
            does. A row's target is spread evenly over its matches, and so is a column's. None
            stands for the diagonal alone.
    """
    if same is None:
        rows = columns = torch.arange(len(logits), device=logits.device)  # int64: exact at any N
    else:
        matches = same | torch.eye(len(same), dtype=torch.bool, device=same.device)
        weights = matches.to(logits.dtype)
        rows = weights / weights.sum(1, keepdim=True)
        columns = weights.T / weights.T.sum(1, keepdim=True)
    total = F.cross_entropy(logits, rows, reduction="sum")
    total = total + F.cross_entropy(logits.T, columns, reduction="sum")
    return total / max(len(logits), 1)


def check_same(same: Tensor | None, pairs: int) -> None:
    """Raise ValueError unless `same` is None or a bool matrix over the pairs."""
    if same is not None:
        check_mask("same", same, (pairs, pairs))


def check_mask(name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the mask is bool and of this shape."""
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(f"{name} must be bool {shape}, not {mask.dtype} {tuple(mask.shape)}")
