"""Image-image contrastive loss: match the two views of a study among all views of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mama.losses.matching import full_precision, l2_normalise


def nt_xent_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy of two views; term 2 of MaMA.

    Each of the 2N views is compared with the 2N - 1 others by cosine / temperature; its target is
    the other view of the same study. Computed in fp32, also under autocast, or in fp64 for fp64
    inputs.

    Args:
        first: (N, C) float embeddings of the first views, not normalised.
        second: (N, C) float embeddings of the second views, in the same order.
        temperature: positive; MaMA uses 0.5.

    Returns:
        Scalar: the mean cross entropy over the 2N views. 0 with zero gradients for N = 1, which has
        no negatives, and for N = 0.

    Raises:
        ValueError: shapes do not match, or the temperature is not positive.

    Source:
        Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
        Representations", ICML 2020 (arXiv 2002.05709), as used in MaMA (arXiv 2409.18119).
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            "first and second must both be (N, C), "
            f"not {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    with full_precision(first):
        views = l2_normalise(torch.cat([first, second]))
        itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
        # -inf is safe: a view is never its own target, so the loss never reads this entry.
        logits = (views @ views.T / temperature).masked_fill(itself, -torch.inf)
        other_view = torch.arange(len(views), device=views.device).roll(len(first))
        return F.cross_entropy(logits, other_view, reduction="sum") / max(len(views), 1)
