"""How well patches and sentences match at best: mean of maximal cosines, one image at a time."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def mean_best_cosines(
    patches: Tensor,
    rows: Tensor,
    counts: Sequence[int],
    sentences: Tensor,
    weights: Tensor,
    scores: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The similarities of the local loss without their scale, for N images and R reports.

        t2i[i, n] = sum over s of weights[i, s] * (max over p in P_n of cos(p, (i, s)))
        i2t[i, n] = mean over p in P_n of (max over s of cos(p, (i, s)))

    A maximum hands its gradient to one best pair; ties do not split. So the backward pass needs no
    cosine, only which pair was best (int16 where that fits), and gathers these pairs. Patches are
    normalised one image at a time and once more backward, since the unit vectors of all images
    would be the largest tensor of the loss. Memory beyond arguments and gradients is about
    2 * M * R bytes plus the cosines of one image.

    Args:
        patches: (*, C) float, not normalised.
        rows: (M,) int64, the patches that count, each once, image after image.
        counts: N numbers of patches, none 0, sum M: the first of the rows are P_0, the next P_1 ...
        sentences: (R, S, C) at length 1, fp32 or fp64. A report with fewer than S sentences
            repeats its own: then no maximum needs a mask.
        weights: (R, S) of the same dtype, 0 at repetitions; no gradient.
        scores: dtype of the cosines and their maxima; everything else has the sentences' dtype.

    Returns:
        t2i and i2t, each (R, N) of the sentences' dtype, differentiable once.
    """
    return _MeanBestCosines.apply(patches, rows, list(counts), sentences, weights, scores)


class _MeanBestCosines(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        patches: Tensor,
        rows: Tensor,
        counts: list[int],
        sentences: Tensor,
        weights: Tensor,
        scores: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        reports, most, _ = sentences.shape
        every_sentence = sentences.flatten(0, 1).to(scores)
        firsts = torch.arange(0, reports * most, most, device=sentences.device)
        t2i, i2t = sentences.new_empty(2, len(counts), reports)
        index = torch.int16 if max(reports * most, *counts) <= 2**15 else torch.int32
        best_patch = rows.new_empty(len(counts), reports * most, dtype=index)
        best_sentence = rows.new_empty(len(rows), reports, dtype=index)
        images = zip(rows.split(counts), best_sentence.split(counts), strict=True)
        for n, (of_image, best) in enumerate(images):
            units, _ = _unit(patches, of_image, sentences.dtype)
            cosines = units.to(scores) @ every_sentence.T
            # max, not amax: only max tells the place.
            cosine, place = cosines.max(0)
            t2i[n] = (cosine.view_as(weights) * weights).sum(1)
            best_patch[n] = place
            cosine, place = cosines.view(-1, reports, most).max(2)
            i2t[n] = cosine.mean(0, dtype=i2t.dtype)
            best.copy_(place.add_(firsts))
        ctx.save_for_backward(patches, rows, sentences, weights, best_patch, best_sentence)
        ctx.counts = counts
        return t2i.T, i2t.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_t2i: Tensor, grad_i2t: Tensor) -> tuple[Tensor | None, ...]:
        patches, rows, sentences, weights, best_patch, best_sentence = ctx.saved_tensors
        grad_patches, grad_sentences = torch.zeros_like(patches), torch.zeros_like(sentences)
        images = zip(rows.split(ctx.counts), best_sentence.split(ctx.counts), strict=True)
        for n, (of_image, best) in enumerate(images):
            units, lengths = _unit(patches, of_image, sentences.dtype)
            to_sentence = (grad_t2i[:, n, None] * weights)[:, :, None]
            to_report = (grad_i2t[:, n] / len(units))[:, None, None]
            patch = best_patch[n].int()

            grad_sentences += units[patch].view_as(sentences) * to_sentence
            grad_sentences += _sum_by_sentence(units, best, sentences) * to_report
            grad = F.embedding_bag(best.int(), (sentences * to_report).flatten(0, 1), mode="sum")
            grad.index_add_(0, patch, (sentences * to_sentence).flatten(0, 1))
            # Back through the normalisation: what points along a unit vector changes no cosine.
            along = (units * grad).sum(1, keepdim=True)
            grad.addcmul_(units, along, value=-1).div_(lengths)
            grad_patches.index_copy_(0, of_image, grad.to(patches.dtype))
        return grad_patches, None, None, grad_sentences, None, None


def _unit(patches: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """These patches at length 1, (P, C), and their lengths (P, 1); zero stays zero, at length 1e-12."""
    vectors = patches.index_select(0, rows).to(dtype)
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min_(1e-12)
    return vectors.div_(lengths), lengths


def _sum_by_sentence(units: Tensor, best_sentence: Tensor, sentences: Tensor) -> Tensor:
    """Shaped as the sentences (R, S, C): the sum of the patches whose best sentence each one is.

    Args:
        units: (P, C).
        best_sentence: (P, R) integers, rows of the flattened sentences.
        sentences: (R, S, C).
    """
    reports, most, _ = sentences.shape
    found, order = best_sentence.flatten().sort(stable=True)
    every = torch.arange(reports * most, dtype=found.dtype, device=found.device)
    starts = torch.searchsorted(found, every)
    return F.embedding_bag(order // reports, units, starts, mode="sum").view_as(sentences)
