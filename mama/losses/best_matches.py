"""Best matches of patches and sentences: means of maximal cosines, a few images at a time."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mama.losses.matching import moved

# Cosines computed at once: on a CPU one image's, which stay in its cache; on a GPU many, because
# small kernels would leave it idle.
SCORES_AT_ONCE = {"cpu": 0, "cuda": 2**26}


def mean_best_cosines(
    patches: Tensor,
    rows: Tensor,
    counts: Sequence[int],
    sentences: Tensor,
    weights: Tensor,
    score_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return the unscaled similarities of the local loss, for N images and R reports.

        t2i[i, n] = sum over s of weights[i, s] * (max over p in P_n of cos(p, (i, s)))
        i2t[i, n] = mean over p in P_n of (max over s of cos(p, (i, s)))

    Each maximum passes its gradient to a single best pair; ties are not split. The backward pass
    therefore needs no cosines, only the indices of the best pairs (int16 where they fit), which it
    gathers. Images are processed in groups: one at a time on a CPU, as many as SCORES_AT_ONCE
    allows on a GPU. Patches are normalised again in the backward pass, because the unit vectors of
    all images would be the largest tensor of the loss. Memory beyond arguments and gradients is
    about 2 * M * R bytes plus the cosines of one group.

    Args:
        patches: (*, C) float, not normalised.
        rows: (M,) int64, indices of the valid patches, each once, grouped by image.
        counts: N patch counts, none 0, sum M: the first rows are P_0, the next P_1, ...
        sentences: (R, S, C), unit vectors, fp32 or fp64. A report with fewer than S sentences
            repeats its own, so that no maximum needs a mask.
        weights: (R, S) of the same dtype, 0 at repetitions; no gradient.
        score_dtype: dtype of the cosines and their maxima; the rest has the sentences' dtype.

    Returns:
        t2i and i2t, each (R, N) of the sentences' dtype, differentiable once.
    """
    return _MeanBestCosines.apply(patches, rows, list(counts), sentences, weights, score_dtype)


class _MeanBestCosines(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913  (autograd has no keywords)
        ctx: Any,
        patches: Tensor,
        rows: Tensor,
        counts: list[int],
        sentences: Tensor,
        weights: Tensor,
        score_dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        reports, most, _ = sentences.shape
        all_sentences = sentences.flatten(0, 1).to(score_dtype)
        firsts = torch.arange(0, reports * most, most, device=sentences.device)
        t2i, i2t = sentences.new_empty(2, len(counts), reports)
        index_dtype = torch.int16 if max(reports * most, *counts) <= 2**15 else torch.int32
        best = []
        for group in _groups(rows, counts, reports * most):
            units, _ = _l2_normalise(patches, group.rows, sentences.dtype)
            cosines = (units.to(score_dtype) @ all_sentences.T).unflatten(0, group.shape)
            # max, not amax, because only max returns indices.
            cosine, patch = cosines.max(1)
            t2i[group.images] = (cosine.unflatten(1, weights.shape) * weights).sum(2)
            patch = patch.masked_fill_(patch >= group.counts, 0)  # padding repeats patch 0
            cosine, index = cosines.unflatten(2, weights.shape).max(3)
            i2t[group.images] = group.zero_padding(cosine).sum(1, dtype=i2t.dtype) / group.counts
            best += [patch.to(index_dtype), index.add_(firsts).to(index_dtype)]
        ctx.save_for_backward(patches, rows, sentences, weights, *best)
        ctx.counts = counts
        return t2i.T, i2t.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_t2i: Tensor, grad_i2t: Tensor) -> tuple[Tensor | None, ...]:
        patches, rows, sentences, weights, *best = ctx.saved_tensors
        grad_patches, grad_sentences = torch.zeros_like(patches), torch.zeros_like(sentences)
        groups = _groups(rows, ctx.counts, weights.numel())
        for group, patch, sentence in zip(groups, best[::2], best[1::2], strict=True):
            units, lengths = _l2_normalise(patches, group.rows, sentences.dtype)
            # Gradients of the maxima of each image: over patches (G, R, S, 1), over sentences
            # (G, R, 1, 1).
            to_sentence = (grad_t2i.T[group.images, :, None] * weights).unsqueeze(3)
            to_report = (grad_i2t.T[group.images] / group.counts)[:, :, None, None]
            patch = group.numbered(patch, group.shape[1]).flatten()
            sentence = group.numbered(sentence.flatten(1), weights.numel()).view_as(sentence)

            shape = (group.shape[0], *sentences.shape)
            grad_sentences += (units[patch].view(shape) * to_sentence).sum(0)
            sums = _sum_by_sentence(group.real(units), group.real(sentence.flatten(0, 1)), shape)
            grad_sentences += (sums * to_report).sum(0)
            table = (sentences * to_report).flatten(0, 2)
            grad = F.embedding_bag(sentence.flatten(0, 1), table, mode="sum")
            grad.index_add_(0, patch, (sentences * to_sentence).flatten(0, 2))
            # Gradient of the normalisation: remove the component along the unit vector.
            along = (units * grad).sum(1, keepdim=True)
            grad.addcmul_(units, along, value=-1).div_(lengths)
            grad_patches.index_copy_(0, rows[group.span], group.real(grad).to(patches.dtype))
        return grad_patches, None, None, grad_sentences, None, None


class _Group(NamedTuple):
    """G images scored together, each padded to L patches with repetitions of its first patch.

    `rows` (G * L,) int64 are indices of patches, `counts` (G, 1) int64 the images' numbers of
    patches. `places` (sum of counts,) int64 are the real patches among the G * L, and `padding`
    (G, L, 1) bool marks the others; both are None without padding. `images` and `span` are the
    group's images and its part of all rows.
    """

    rows: Tensor
    counts: Tensor
    places: Tensor | None
    padding: Tensor | None
    images: slice
    span: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images G and of patches per image L."""
        return len(self.counts), len(self.rows) // len(self.counts)

    def zero_padding(self, values: Tensor) -> Tensor:
        """Set the padding's values (G, L, R) to 0 in place."""
        return values if self.padding is None else values.masked_fill_(self.padding, 0)

    def real(self, values: Tensor) -> Tensor:
        """Return the real patches' values (sum of counts, *) of (G * L, *)."""
        return values if self.places is None else values.index_select(0, self.places)

    def numbered(self, index: Tensor, size: int) -> Tensor:
        """Turn (G, *) indices within each image, of `size` values, into indices over the group."""
        first = torch.arange(0, len(index) * size, size, device=index.device, dtype=torch.int32)
        return index.int() + first[:, None]


def _groups(rows: Tensor, counts: Sequence[int], sentences: int) -> Iterator[_Group]:
    """Divide the images into groups; each patch is compared with this many sentences."""
    first = start = 0
    while first < len(counts):
        last, longest = first + 1, counts[first]
        while last < len(counts):
            longest = max(longest, counts[last])
            if (last + 1 - first) * longest * sentences > SCORES_AT_ONCE[rows.device.type]:
                break
            last += 1
        members = list(counts[first:last])
        yield _group(rows, members, slice(first, last), slice(start, start + sum(members)))
        first, start = last, start + sum(members)


def _group(rows: Tensor, counts: list[int], images: slice, span: slice) -> _Group:
    lengths, place = torch.tensor(counts)[:, None], torch.arange(max(counts))
    padding = place >= lengths
    if min(counts) == max(counts):
        return _Group(rows[span], moved(lengths, rows), None, None, images, span)
    positions = lengths.cumsum(0) - lengths + place.masked_fill(padding, 0)
    padded = rows[span].index_select(0, moved(positions.flatten(), rows))
    starts = range(0, len(padded), padding.shape[1])
    places = torch.cat([s + place[:count] for s, count in zip(starts, counts, strict=True)])
    return _Group(
        padded,
        moved(lengths, rows),
        moved(places, rows),
        moved(padding[..., None], rows),
        images,
        span,
    )


def _l2_normalise(patches: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return unit vectors (P, C) of these patches and their lengths (P, 1), at least 1e-12."""
    vectors = patches.index_select(0, rows).to(dtype)
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min_(1e-12)
    return vectors.div_(lengths), lengths


def _sum_by_sentence(units: Tensor, best_sentence: Tensor, shape: Sequence[int]) -> Tensor:
    """Return, per image and sentence, the sum of the patches it is the best match of, (G, R, S, C).

    Args:
        units: (P, C).
        best_sentence: (P, R) integers, indices into the G * R * S sentences of all images.
        shape: G, R, S and C.
    """
    found, order = best_sentence.flatten().sort(stable=True)
    every = torch.arange(math.prod(shape[:3]), dtype=found.dtype, device=found.device)
    starts = torch.searchsorted(found, every)
    return F.embedding_bag(order // shape[1], units, starts, mode="sum").view(*shape)
