"""Image-text contrastive loss: match images to reports within the batch, and vice versa."""

from torch import Tensor

from mama.losses.matching import (
    at_least_fp32,
    check_positives,
    full_precision,
    l2_normalise,
    symmetric_cross_entropy,
)


def clip_loss(
    image: Tensor, text: Tensor, log_scale: Tensor, *, positives: Tensor | None = None
) -> Tensor:
    """Symmetric contrastive loss of image and report embeddings; terms 1 and 3 of MaMA.

    The logits are the cosines of all images with all texts, times exp(log_scale). Computed in fp32,
    also under autocast, or in fp64 for fp64 inputs.

    Args:
        image: (N, C) float image embeddings, not normalised; row n belongs to text n.
        text: (N, C) float report embeddings, not normalised.
        log_scale: scalar; natural logarithm of the logit scale.
        positives: (N, N) bool, symmetric; further positive pairs (identical reports, or one study).
            Each target is uniform over its positives; a pair is always its own positive. None, as
            in the paper: no further positives.

    Returns:
        Scalar: the sum of two cross entropies (image to text, text to image), each a mean over the
        batch. 0 with zero gradients for N = 0.

    Raises:
        ValueError: shapes do not match, or `positives` is not bool.

    Source:
        Du, Onofrey, Dvornek, "Multi-View and Multi-Scale Alignment for Contrastive Language-Image
        Pre-training in Mammography", IPMI 2025 (arXiv 2409.18119).
    """
    if image.ndim != 2 or image.shape != text.shape:
        raise ValueError(
            f"image and text must both be (N, C), not {tuple(image.shape)} and {tuple(text.shape)}"
        )
    check_positives(positives, len(image))
    with full_precision(image):
        cosines = l2_normalise(image) @ l2_normalise(text).T
        return symmetric_cross_entropy(cosines * at_least_fp32(log_scale).exp(), positives)
