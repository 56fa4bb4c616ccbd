"""The objective of MaMA: four contrastive terms on the embeddings of one batch of study pairs.

Encoding and losses are apart, so that a batch can be encoded in pieces or on several GPUs and still be
compared as a whole.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mama.config import LossConfig
from mama.data.pairs import Batch
from mama.losses import clip_loss, local_alignment_loss, nt_xent_loss
from mama.model import EncodedImages, MaMA
from mama.precision import autocast_dtype
from mama.ragged import padded

TERMS = ("image_text", "second_text", "image_image", "local")


class Encoded(NamedTuple):
    """N study pairs as the losses see them.

    `first`, `second`, `text` (N, E) meet in image-text terms, `first_view` and `second_view` (N, E) in the
    image-image term, `patches` (sum P, E) and `sentences` (sum S, E), end to end with their counts (N,), in the
    local term. `told` and `second_told` (N,) bool: the report speaks of this view's breast. `report` (N,) int64
    is equal for equal reports. `truncated` (pieces,) int64: how many reports were too long, a piece of the batch.
    """

    first: Tensor
    first_view: Tensor
    second: Tensor
    second_view: Tensor
    patches: Tensor
    text: Tensor
    sentences: Tensor
    patch_counts: Tensor
    sentence_counts: Tensor
    told: Tensor
    second_told: Tensor
    report: Tensor
    truncated: Tensor


# What gradients flow through; the rest says what belongs to what.
EMBEDDINGS = (
    "first", "first_view", "second", "second_view", "patches", "text", "sentences",
)  # fmt: skip


def active_terms(config: LossConfig, progress: float) -> list[str]:
    """The terms with a weight that have started at `progress`, the fraction of the planned steps done."""
    return [
        name
        for name in TERMS
        if getattr(config, name).weight > 0 and progress >= getattr(config, name).start
    ]


def encode(model: MaMA, batch: Batch, terms: Sequence[str]) -> Encoded:
    """Encode what the named terms need; what they do not need has no row."""
    local = "local" in terms
    first = model.encode_images(batch.first, local=local)
    if "second_text" in terms or "image_image" in terms:
        second = model.encode_images(batch.second, local=False)
    else:
        second = EncodedImages(*(part[:0] for part in first))
    tokens = model.text.tokenise(batch.reports).to(batch.first.device)
    texts = model.encode_texts(tokens, local=local)
    told = (texts.counts > 0).to(batch.first.device)
    return Encoded(
        first=first.embedding,
        first_view=first.view,
        second=second.embedding,
        second_view=second.view,
        patches=first.patches,
        text=texts.embedding,
        sentences=texts.sentences,
        patch_counts=first.counts,
        sentence_counts=texts.counts,
        told=told,
        second_told=told & batch.second_told,
        truncated=torch.tensor([tokens.truncated], device=told.device),
        report=torch.tensor([_key(report) for report in batch.reports], device=told.device),
    )


def joined(parts: Iterable[Encoded]) -> Encoded:
    """The parts of a batch as one."""
    return Encoded(*(torch.cat(same) for same in zip(*parts, strict=True)))


def losses(
    encoded: Encoded,
    logit_scale: Tensor,
    local_scale: Tensor,
    config: LossConfig,
    terms: Sequence[str],
) -> dict[str, Tensor]:
    """The named terms on one batch, unweighted scalars.

    An image without a report takes part in the image-image term only, and so does a second view of which the report
    does not speak; without any report the other terms are 0. Identical texts are each other's positives
    unless the config follows the paper. Under autocast the local term's cosines, its one large matrix product, are
    in autocast's dtype; all else of the losses is fp32.

    Args:
        logit_scale, local_scale: scalars; natural logarithms.
    """
    result = {}
    if "image_image" in terms:
        result["image_image"] = nt_xent_loss(
            encoded.first_view, encoded.second_view, config.view_temperature
        )
    for term, images, told in (
        ("image_text", encoded.first, encoded.told),
        ("second_text", encoded.second, encoded.second_told),
    ):
        if term in terms:
            rows = told.nonzero().squeeze(1)
            same = _same(encoded.report[rows]) if config.identical_texts_match else None
            result[term] = clip_loss(images[rows], encoded.text[rows], logit_scale, same=same)
    if "local" in terms:
        patches, patch_mask = padded(encoded.patches, encoded.patch_counts)
        sentences, sentence_mask = padded(encoded.sentences, encoded.sentence_counts)
        result["local"] = local_alignment_loss(
            patches,
            sentences,
            sentence_mask,
            local_scale,
            patch_mask=patch_mask,
            same=_same(encoded.report) if config.identical_texts_match else None,
            scores=autocast_dtype(patches.device),
        )
    return result


def has_contrast(encoded: Encoded, terms: Sequence[str]) -> bool:
    """True of a batch that can teach: two images in the image-image term, or two unequal reports."""
    images = "image_image" in terms and len(encoded.first_view) > 1
    reports = encoded.report[encoded.told].unique()
    return images or (len(reports) > 1 and any(term != "image_image" for term in terms))


def weighted_sum(values: Mapping[str, Tensor], config: LossConfig) -> Tensor:
    """The objective: the terms by their weights."""
    return torch.stack([getattr(config, name).weight * values[name] for name in values]).sum()


def _same(reports: Tensor) -> Tensor:
    return reports[:, None] == reports[None, :]


def _key(report: Sequence[str]) -> int:
    """63 bits of the report's SHA-256: equal on all machines, so that reports need not be compared as text."""
    return int.from_bytes(hashlib.sha256("\n".join(report).encode()).digest()[:8], "big") >> 1
