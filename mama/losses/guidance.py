"""Guidance: embeddings stay near those of another model."""

from torch import Tensor

from mama.losses.matching import full_precision, unit


def guidance_loss(embeddings: Tensor, anchors: Tensor) -> Tensor:
    """The mean over N of || u_i / |u_i| - a_i / |a_i| ||^2, 0 to 4; 0 for N = 0.

    Shuai and Shen, "Distributionally Robust Alignment for Medical Federated Vision-Language Pre-training Under Data
    Heterogeneity", 2024 (arXiv 2404.03854). Their code takes the mean over the E values too: its weight is E times
    this one's.

    Args:
        embeddings: u (N, E) float, not normalised.
        anchors: a (N, E) float, of the same N in the same order; no gradient flows to them.

    Raises:
        ValueError: shapes do not match.
    """
    if embeddings.ndim != 2 or embeddings.shape != anchors.shape:
        raise ValueError(
            f"embeddings and anchors must both be (N, E), not {tuple(embeddings.shape)} and {tuple(anchors.shape)}"
        )
    with full_precision(embeddings):
        apart = unit(embeddings) - unit(anchors.detach())
        return apart.square().sum() / max(1, len(apart))
