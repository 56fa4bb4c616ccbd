"""Local contrast: sentences find their patches, and patches their sentence."""

import torch
from torch import Tensor

from mama.losses.matching import (
    check_mask,
    check_same,
    full_precision,
    matching_loss,
    unit,
    widen,
)

BELOW_ANY_COSINE = -2.0


def local_alignment_loss(
    patches: Tensor,
    sentences: Tensor,
    sentence_mask: Tensor,
    log_scale: Tensor,
    *,
    patch_mask: Tensor | None = None,
    same: Tensor | None = None,
) -> Tensor:
    """Contrastive loss of image patches and report sentences; term 4 of MaMA.

    With P_n the patches of image n, S_i the sentences of report i and l = exp(log_scale):

        t2i[i, n] = l * mean over s in S_i of (max over p in P_n of cos(p, s))
        i2t[i, n] = l * mean over p in P_n of (max over s in S_i of cos(p, s))

    Means and maxima run over real (true) entries only; whatever stands in the padding has no
    effect and gets zero gradient. A pair whose report has no sentence, or whose image has no patch,
    has nothing to align: it is removed as row and as column, so the loss is that of the remaining
    sub-batch. Computed in fp32, also under autocast, or in fp64 for fp64 inputs. Memory is
    dominated by the (N, S, N, P) cosines.

    Args:
        patches: (N, P, C) float patch embeddings, not normalised; image n belongs to report n.
        sentences: (N, S, C) float sentence embeddings, not normalised, padded to S.
        sentence_mask: (N, S) bool, true for a real sentence.
        log_scale: scalar; natural logarithm of the logit scale.
        patch_mask: (N, P) bool, true for a patch that counts (tissue). None: all do.
        same: (N, N) bool, symmetric; pairs whose reports count as each other's match (identical
            reports, or one study). Each target is even over its matches; a pair always matches
            itself. None is the paper: nothing else does.

    Returns:
        Scalar: the sum of four cross entropies (rows and columns of t2i and of i2t), each a mean
        over the remaining pairs. 0 with zero gradients if none remains.

    Raises:
        ValueError: shapes do not match, or a mask or `same` is not bool.

    Source:
        Du, Onofrey, Dvornek, "Multi-View and Multi-Scale Alignment for Contrastive Language-Image
        Pre-training in Mammography", IPMI 2025 (arXiv 2409.18119).
    """
    if patch_mask is None:
        patch_mask = patches.new_ones(patches.shape[:2], dtype=torch.bool)
    _check_shapes(patches, sentences, sentence_mask, patch_mask, same)

    kept = (sentence_mask.any(1) & patch_mask.any(1)).nonzero().squeeze(1)
    sentence_mask, patch_mask = sentence_mask[kept], patch_mask[kept]
    same = None if same is None else same[kept][:, kept]
    with full_precision(patches):
        # Padding is blanked before anything is computed from it: no stray value can spread.
        patches = unit(_blank(patches.index_select(0, kept), patch_mask))
        sentences = unit(_blank(sentences.index_select(0, kept), sentence_mask))
        scale = widen(log_scale).exp()
        if len(kept) == 0:
            return patches.sum() + sentences.sum() + 0 * scale
        t2i, i2t = _similarities(patches, sentences, sentence_mask, patch_mask)
        return matching_loss(scale * t2i, same) + matching_loss(scale * i2t, same)


def _similarities(
    patches: Tensor, sentences: Tensor, sentence_mask: Tensor, patch_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """t2i and i2t without their scale, each (N, N): rows are reports, columns are images."""
    cosines = torch.einsum("isc,npc->isnp", sentences, patches)
    # Padding wins a maximum only over padding alone, and that maximum weighs 0 below. So filling it
    # needs no backward pass (which copies all cosines), but a finite value: 0 * inf is NaN.
    with torch.no_grad():
        cosines.masked_fill_(~sentence_mask[:, :, None, None], BELOW_ANY_COSINE)
        cosines.masked_fill_(~patch_mask, BELOW_ANY_COSINE)
    # max(dim), not amax: it keeps indices for the backward pass instead of all the cosines.
    best_patch = cosines.max(dim=3).values
    best_sentence = cosines.max(dim=1).values
    t2i = torch.einsum("isn,is->in", best_patch, _mean_weights(sentence_mask, cosines.dtype))
    i2t = torch.einsum("inp,np->in", best_sentence, _mean_weights(patch_mask, cosines.dtype))
    return t2i, i2t


def _mean_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / number of true entries in the row at true entries, 0 elsewhere."""
    weights = mask.to(dtype)
    return weights / weights.sum(1, keepdim=True)


def _blank(vectors: Tensor, mask: Tensor) -> Tensor:
    return vectors.masked_fill(~mask[:, :, None], 0)


def _check_shapes(
    patches: Tensor,
    sentences: Tensor,
    sentence_mask: Tensor,
    patch_mask: Tensor,
    same: Tensor | None,
) -> None:
    n, c = len(patches), patches.shape[-1]
    if patches.ndim != 3 or sentences.ndim != 3 or (len(sentences), sentences.shape[-1]) != (n, c):
        raise ValueError(
            "patches must be (N, P, C) and sentences (N, S, C), "
            f"not {tuple(patches.shape)} and {tuple(sentences.shape)}"
        )
    check_mask("sentence_mask", sentence_mask, tuple(sentences.shape[:2]))
    check_mask("patch_mask", patch_mask, tuple(patches.shape[:2]))
    check_same(same, n)
