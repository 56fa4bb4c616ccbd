"""Local contrast: sentences find their patches, and patches their sentence."""

import torch
from torch import Tensor

from mama.losses.best_matches import mean_best_cosines
from mama.losses.matching import (
    check_mask,
    check_same,
    full_precision,
    matching_loss,
    unit,
    widen,
)


def local_alignment_loss(
    patches: Tensor,
    sentences: Tensor,
    sentence_mask: Tensor,
    log_scale: Tensor,
    *,
    patch_mask: Tensor | None = None,
    same: Tensor | None = None,
    scores: torch.dtype | None = None,
) -> Tensor:
    """Contrastive loss of image patches and report sentences; term 4 of MaMA.

    With P_n the patches of image n, S_i the sentences of report i and l = exp(log_scale):

        t2i[i, n] = l * mean over s in S_i of (max over p in P_n of cos(p, s))
        i2t[i, n] = l * mean over p in P_n of (max over s in S_i of cos(p, s))

    Means and maxima run over real (true) entries only; whatever stands in the padding has no
    effect and gets zero gradient. A pair whose report has no sentence, or whose image has no patch,
    has nothing to align: it is removed as row and as column, so the loss is that of the remaining
    sub-batch. Computed in fp32, also under autocast, or in fp64 for fp64 inputs; `scores` may
    lower that for the cosines. Differentiable once. Time is dominated by the cosines of all
    patches with all sentences; they are computed one image at a time and not kept.

    Args:
        patches: (N, P, C) float patch embeddings, not normalised; image n belongs to report n.
        sentences: (N, S, C) float sentence embeddings, not normalised, padded to S.
        sentence_mask: (N, S) bool, true for a real sentence.
        log_scale: scalar; natural logarithm of the logit scale.
        patch_mask: (N, P) bool, true for a patch that counts (tissue). None: all do.
        same: (N, N) bool, symmetric; pairs whose reports count as each other's match (identical
            reports, or one study). Each target is even over its matches; a pair always matches
            itself. None is the paper: nothing else does.
        scores: dtype of the cosines and their maxima, such as bfloat16. Maxima are then known to
            its precision and nearly equal ones may be exchanged; means, cross entropies and
            gradients stay in fp32. None, and any dtype for fp64 inputs: no lower than the rest.

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

    aligned = sentence_mask.any(1) & patch_mask.any(1)
    sentence_mask, patch_mask = sentence_mask & aligned[:, None], patch_mask & aligned[:, None]
    same = None if same is None else same[aligned][:, aligned]
    with full_precision(patches):
        # Only real entries are ever read, so whatever stands in the padding cannot spread.
        real = unit(sentences[sentence_mask])
        scale = widen(log_scale).exp()
        if len(real) == 0:
            return widen(patches[:0]).sum() + real.sum() + 0 * scale
        real = real.to(torch.promote_types(real.dtype, patches.dtype))
        repeated, weights = _repeat_to_longest(real, sentence_mask.sum(1)[aligned])
        t2i, i2t = mean_best_cosines(
            patches.flatten(0, 1),
            patch_mask.flatten().nonzero().squeeze(1),
            patch_mask.sum(1)[aligned].tolist(),
            repeated,
            weights,
            real.dtype if scores is None or real.dtype == torch.float64 else scores,
        )
        return matching_loss(scale * t2i, same) + matching_loss(scale * i2t, same)


def _repeat_to_longest(real: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Reports of one length S: each starts over at its end until it is as long as the longest.

    Args:
        real: (sum of counts, C) the sentences, report after report.
        counts: (R,) int64, at least 1.

    Returns:
        (R, S, C), and the weights (R, S) of their mean: 1 / count, and 0 at repetitions.
    """
    slots, counts = torch.arange(int(counts.max()), device=real.device), counts[:, None]
    rows = counts.cumsum(0) - counts + slots % counts
    repeated = real.index_select(0, rows.flatten()).view(*rows.shape, real.shape[1])
    return repeated, (slots < counts).to(real.dtype) / counts


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
