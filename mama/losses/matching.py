"""Shared parts of the losses: L2 normalisation, full precision, symmetric cross entropy."""

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Disable autocast on the tensor's device; in bf16 a logit of 100 is rounded to 0.5."""
    return torch.autocast(tensor.device.type, enabled=False)


def moved(tensor: Tensor, like: Tensor) -> Tensor:
    """Copy a tensor to another's device without waiting for that device."""
    return tensor.to(like.device, non_blocking=True)


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Convert to fp32, keeping fp64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def l2_normalise(vectors: Tensor) -> Tensor:
    """Normalise vectors (..., C) in at least fp32; zero stays zero, with a finite gradient."""
    return F.normalize(at_least_fp32(vectors), dim=-1)


def symmetric_cross_entropy(logits: Tensor, positives: Tensor | None) -> Tensor:
    """Return the cross entropy of the rows plus that of the columns, each a batch mean.

    Args:
        logits: (N, N) float; pair n is row n and column n. N = 0 gives 0.
        positives: (N, N) bool, [row, column]; positives besides the diagonal, which is always one.
            A row's target is uniform over its positives, and so is a column's. None: the diagonal
            alone.
    """
    if positives is None:
        rows = columns = torch.arange(len(logits), device=logits.device)  # int64: exact at any N
    else:
        matches = positives | torch.eye(len(positives), dtype=torch.bool, device=positives.device)
        weights = matches.to(logits.dtype)
        rows = weights / weights.sum(1, keepdim=True)
        columns = weights.T / weights.T.sum(1, keepdim=True)
    total = F.cross_entropy(logits, rows, reduction="sum")
    total = total + F.cross_entropy(logits.T, columns, reduction="sum")
    return total / max(len(logits), 1)


def check_positives(positives: Tensor | None, pairs: int) -> None:
    """Raise ValueError unless `positives` is None or a bool matrix over the pairs."""
    if positives is not None:
        check_mask("positives", positives, (pairs, pairs))


def check_mask(name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the mask is bool and of this shape."""
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(f"{name} must be bool {shape}, not {mask.dtype} {tuple(mask.shape)}")
