"""Guidance loss: keep embeddings close to those of an anchor model."""

from torch import Tensor

from mama.losses.matching import full_precision, l2_normalise


def guidance_loss(embeddings: Tensor, anchors: Tensor) -> Tensor:
    """Return the mean over N of || u_i / |u_i| - a_i / |a_i| ||^2, from 0 to 4; 0 for N = 0.

    Shuai and Shen, "Distributionally Robust Alignment for Medical Federated Vision-Language
    Pre-training Under Data Heterogeneity", 2024 (arXiv 2404.03854). Their code also averages over
    the E values, so their weight is E times this one's.

    Args:
        embeddings: u, (N, E) float, not normalised.
        anchors: a, (N, E) float, in the same order; they receive no gradient.

    Raises:
        ValueError: shapes do not match.
    """
    if embeddings.ndim != 2 or embeddings.shape != anchors.shape:
        raise ValueError(
            "embeddings and anchors must both be (N, E), "
            f"not {tuple(embeddings.shape)} and {tuple(anchors.shape)}"
        )
    with full_precision(embeddings):
        difference = l2_normalise(embeddings) - l2_normalise(anchors.detach())
        return difference.square().sum() / max(1, len(difference))
