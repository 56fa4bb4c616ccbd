"""Local contrastive loss: match report sentences to image patches, and vice versa."""

from typing import NamedTuple

import torch
from torch import Tensor

from mama.losses.best_matches import mean_best_cosines
from mama.losses.matching import (
    at_least_fp32,
    check_mask,
    check_positives,
    full_precision,
    l2_normalise,
    moved,
    symmetric_cross_entropy,
)


def local_alignment_loss(  # noqa: PLR0913  (keywords)
    patches: Tensor,
    sentences: Tensor,
    sentence_mask: Tensor,
    log_scale: Tensor,
    *,
    patch_mask: Tensor | None = None,
    positives: Tensor | None = None,
    score_dtype: torch.dtype | None = None,
) -> Tensor:
    """Contrastive loss of image patches and report sentences; term 4 of MaMA.

    With P_n the patches of image n, S_i the sentences of report i and l = exp(log_scale):

        t2i[i, n] = l * mean over s in S_i of (max over p in P_n of cos(p, s))
        i2t[i, n] = l * mean over p in P_n of (max over s in S_i of cos(p, s))

    Means and maxima run over real (true) entries only; padding has no effect and gets zero
    gradient. A pair whose report has no sentence, or whose image has no patch, is removed as row
    and as column, so the loss is that of the remaining sub-batch. Computed in fp32, also under
    autocast, or in fp64 for fp64 inputs; `score_dtype` may lower the precision of the cosines.
    Differentiable once. Most time goes into the cosines of all patches with all sentences; they are
    computed one image at a time and not kept.

    Args:
        patches: (N, P, C) float patch embeddings, not normalised; image n belongs to report n.
        sentences: (N, S, C) float sentence embeddings, not normalised, padded to S.
        sentence_mask: (N, S) bool, true for a real sentence.
        log_scale: scalar; natural logarithm of the logit scale.
        patch_mask: (N, P) bool, true for a valid patch (tissue). None: all are valid.
        positives: (N, N) bool, symmetric; further positive pairs (identical reports, or one study).
            Each target is uniform over its positives; a pair is always its own positive. None, as
            in the paper: no further positives.
        score_dtype: dtype of the cosines and their maxima, such as bfloat16. Maxima then have its
            precision, and nearly equal ones may be swapped; means, cross entropies and gradients
            stay in fp32. None, and any dtype for fp64 inputs: the dtype of the rest.

    Returns:
        Scalar: the sum of four cross entropies (rows and columns of t2i and of i2t), each a mean
        over the remaining pairs. 0 with zero gradients if none remains.

    Raises:
        ValueError: shapes do not match, or a mask or `positives` is not bool.

    Source:
        Du, Onofrey, Dvornek, "Multi-View and Multi-Scale Alignment for Contrastive Language-Image
        Pre-training in Mammography", IPMI 2025 (arXiv 2409.18119).
    """
    if patch_mask is None:
        patch_mask = patches.new_ones(patches.shape[:2], dtype=torch.bool)
    _check_shapes(patches, sentences, sentence_mask, patch_mask, positives)

    aligned = sentence_mask.any(1) & patch_mask.any(1)
    sentence_mask, patch_mask = sentence_mask & aligned[:, None], patch_mask & aligned[:, None]
    pairs = _Pairs(
        patches.flatten(0, 1),
        patch_mask.flatten().nonzero().squeeze(1),
        patch_mask.sum(1)[aligned].cpu(),
        # Only real entries are read, so that NaN or inf in the padding cannot propagate.
        sentences[sentence_mask],
        sentence_mask.sum(1)[aligned].cpu(),
    )
    positives = None if positives is None else positives[aligned][:, aligned]
    return _loss_of(pairs, log_scale, positives, score_dtype)


def packed_alignment_loss(  # noqa: PLR0913  (keywords)
    patches: Tensor,
    patch_counts: Tensor,
    sentences: Tensor,
    sentence_counts: Tensor,
    log_scale: Tensor,
    *,
    positives: Tensor | None = None,
    score_dtype: torch.dtype | None = None,
) -> Tensor:
    """`local_alignment_loss` of sequences concatenated without padding; never waits for a GPU.

    Args:
        patches: (sum of patch_counts, C), image after image.
        patch_counts: (N,) int64, on the CPU.
        sentences: (sum of sentence_counts, C), report after report.
        sentence_counts: (N,) int64, on the CPU.
        log_scale: as there.
        positives: (N, N) bool, on the CPU; as there.
        score_dtype: as there.

    Returns:
        Scalar, as there.
    """
    aligned = (patch_counts > 0) & (sentence_counts > 0)
    rows = aligned.repeat_interleave(patch_counts).nonzero().squeeze(1)
    kept = aligned.repeat_interleave(sentence_counts).nonzero().squeeze(1)
    if positives is not None:
        positives = moved(positives[aligned][:, aligned], patches)
    pairs = _Pairs(
        patches,
        moved(rows, patches),
        patch_counts[aligned],
        sentences.index_select(0, moved(kept, sentences)),
        sentence_counts[aligned],
    )
    return _loss_of(pairs, log_scale, positives, score_dtype)


class _Pairs(NamedTuple):
    """N pairs with at least one patch and one sentence each.

    `rows` are the indices of their patches in `patches` (*, C); `sentences` (S, C) are theirs
    alone. `patch_counts` and `sentence_counts` (N,) int64 are on the CPU.
    """

    patches: Tensor
    rows: Tensor
    patch_counts: Tensor
    sentences: Tensor
    sentence_counts: Tensor


def _loss_of(
    pairs: _Pairs, log_scale: Tensor, positives: Tensor | None, score_dtype: torch.dtype | None
) -> Tensor:
    patches = pairs.patches
    with full_precision(patches):
        real, scale = l2_normalise(pairs.sentences), at_least_fp32(log_scale).exp()
        if len(real) == 0:
            return at_least_fp32(patches[:0]).sum() + real.sum() + 0 * scale
        real = real.to(torch.promote_types(real.dtype, patches.dtype))
        repeated, weights = _repeat_to_longest(real, pairs.sentence_counts)
        t2i, i2t = mean_best_cosines(
            patches,
            pairs.rows,
            pairs.patch_counts.tolist(),
            repeated,
            weights,
            real.dtype if score_dtype is None or real.dtype == torch.float64 else score_dtype,
        )
        return symmetric_cross_entropy(scale * t2i, positives) + symmetric_cross_entropy(
            scale * i2t, positives
        )


def _repeat_to_longest(real: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat the sentences of each report cyclically up to the longest report's length S.

    Args:
        real: (sum of counts, C) sentences, grouped by report.
        counts: (R,) int64, at least 1, on the CPU.

    Returns:
        (R, S, C), and the weights (R, S) of their mean: 1 / count, and 0 at repetitions.
    """
    slots, counts = torch.arange(int(counts.max())), counts[:, None]
    rows = counts.cumsum(0) - counts + slots % counts
    repeated = real.index_select(0, moved(rows.flatten(), real))
    weights = (slots < counts).to(real.dtype) / counts
    return repeated.view(*rows.shape, real.shape[1]), moved(weights, real)


def _check_shapes(
    patches: Tensor,
    sentences: Tensor,
    sentence_mask: Tensor,
    patch_mask: Tensor,
    positives: Tensor | None,
) -> None:
    n, c = len(patches), patches.shape[-1]
    if patches.ndim != 3 or sentences.ndim != 3 or (len(sentences), sentences.shape[-1]) != (n, c):
        raise ValueError(
            "patches must be (N, P, C) and sentences (N, S, C), "
            f"not {tuple(patches.shape)} and {tuple(sentences.shape)}"
        )
    check_mask("sentence_mask", sentence_mask, tuple(sentences.shape[:2]))
    check_mask("patch_mask", patch_mask, tuple(patches.shape[:2]))
    check_positives(positives, n)
