"""Image-text contrast: each image finds its report in the batch, and each report its image."""

from torch import Tensor

from mama.losses.matching import check_same, full_precision, matching_loss, unit, widen


def clip_loss(
    image: Tensor, text: Tensor, log_scale: Tensor, *, same: Tensor | None = None
) -> Tensor:
    """Symmetric contrastive loss of image and report embeddings; terms 1 and 3 of MaMA.

    The logits are the cosines of all images with all texts, times exp(log_scale). Computed in fp32,
    also under autocast, or in fp64 for fp64 inputs.

    Args:
        image: (N, C) float image embeddings, not normalised; row n belongs to text n.
        text: (N, C) float report embeddings, not normalised.
        log_scale: scalar; natural logarithm of the logit scale.
        same: (N, N) bool, symmetric; pairs whose texts count as each other's match (identical
            reports, or one study). Each target is even over its matches; a pair always matches
            itself. None is the paper: nothing else does.

    Returns:
        Scalar: the sum of two cross entropies (image to text, text to image), each a mean over the
        batch. 0 with zero gradients for N = 0.

    Raises:
        ValueError: shapes do not match, or `same` is not bool.

    Source:
        Du, Onofrey, Dvornek, "Multi-View and Multi-Scale Alignment for Contrastive Language-Image
        Pre-training in Mammography", IPMI 2025 (arXiv 2409.18119).
    """
    if image.ndim != 2 or image.shape != text.shape:
        raise ValueError(
            f"image and text must both be (N, C), not {tuple(image.shape)} and {tuple(text.shape)}"
        )
    check_same(same, len(image))
    with full_precision(image):
        cosines = unit(image) @ unit(text).T
        return matching_loss(cosines * widen(log_scale).exp(), same)
