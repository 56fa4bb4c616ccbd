"""Objective of MaMA: four contrastive terms on the embeddings of one batch of study pairs.

Encoding and losses are separate, so that a batch can be encoded in pieces or on several GPUs and
still be contrasted as a whole.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mama.config import LossConfig
from mama.data.pairs import Batch
from mama.losses import clip_loss, nt_xent_loss, packed_alignment_loss
from mama.losses.matching import moved
from mama.model import EncodedImages, EncodedTexts, MaMA
from mama.training.device import autocast_dtype

TERMS = ("image_text", "second_text", "image_image", "local")


class Encoded(NamedTuple):
    """Embeddings of N study pairs.

    `first`, `second` and `text` (N, E) are used in image-text terms, `first_view` and `second_view`
    (N, E) in the image-image term, `patches` (sum P, E) and `sentences` (sum S, E), concatenated
    with their counts (N,), in the local term. `described` and `second_described` (N,) bool: the
    report covers this view's breast. `report` (N,) int64 is equal for equal reports. `truncated`
    (pieces,) int64: number of truncated reports in each piece of the batch. All but the embeddings
    are on the CPU, so that the losses need not wait for a GPU to know their shapes.
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
    described: Tensor
    second_described: Tensor
    report: Tensor
    truncated: Tensor


# Differentiable fields; the others are indices and counts.
EMBEDDINGS = (
    "first", "first_view", "second", "second_view", "patches", "text", "sentences",
)  # fmt: skip


def active_terms(config: LossConfig, progress: float) -> list[str]:
    """Return the weighted terms that have started at `progress`, the fraction of steps done."""
    return [
        name
        for name in TERMS
        if getattr(config, name).weight > 0 and progress >= getattr(config, name).start
    ]


def encode(model: MaMA, batch: Batch, terms: Sequence[str]) -> Encoded:
    """Encode the inputs of the named terms; tensors that no term needs have no rows."""
    local = "local" in terms
    kept = batch.kept or (None, None)
    # Texts first: transformers waits for the GPU to read the padding mask, while it has no work.
    tokens = model.text.tokenise(batch.reports).to(batch.first.device)
    texts = model.encode_texts(tokens, local=local)
    first = model.encode_images(batch.first, local=local, kept=kept[0])
    if "second_text" in terms or "image_image" in terms:
        second = model.encode_images(batch.second, local=False, kept=kept[1])
    else:
        second = EncodedImages(*(part[:0] for part in first))
    described = texts.counts > 0
    sentences, counts = (
        _of_known_breasts(texts, batch) if local else (texts.sentences, texts.counts)
    )
    return Encoded(
        first=first.embedding,
        first_view=first.view,
        second=second.embedding,
        second_view=second.view,
        patches=first.patches,
        text=texts.embedding,
        sentences=sentences,
        patch_counts=first.counts,
        sentence_counts=counts,
        described=described,
        second_described=described & batch.second_described,
        truncated=torch.tensor([tokens.truncated]),
        report=torch.tensor([_key(report) for report in batch.reports]),
    )


def _of_known_breasts(texts: EncodedTexts, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the sentences of a batch whose breast is known, and their numbers by report."""
    if batch.sided is None or all(all(row) for row in batch.sided):
        return texts.sentences, texts.counts
    # The tokeniser may have left out the last sentences of a long report.
    rows = zip(batch.sided, texts.counts.tolist(), strict=True)
    sided = [torch.tensor(flags[:count], dtype=torch.bool) for flags, count in rows]
    chosen = moved(torch.cat(sided).nonzero().squeeze(1), texts.sentences)
    return texts.sentences[chosen], torch.stack([flags.sum() for flags in sided])


def joined(parts: Iterable[Encoded]) -> Encoded:
    """Concatenate the parts of a batch."""
    return Encoded(*(torch.cat(same) for same in zip(*parts, strict=True)))


def losses(
    encoded: Encoded,
    logit_scale: Tensor,
    local_scale: Tensor,
    config: LossConfig,
    terms: Sequence[str],
) -> dict[str, Tensor]:
    """Return the named terms on one batch, as unweighted scalars.

    An image without a report is used only in the image-image term, as is a second view that the
    report does not cover; without any report the other terms are 0. Identical texts are each
    other's positives unless the config follows the paper. Under autocast the cosines of the local
    term, its one large matrix product, have autocast's dtype; all other computations are fp32.

    Args:
        encoded: the embeddings of the batch.
        logit_scale: natural logarithm of the scale of the image-text terms, a scalar.
        local_scale: natural logarithm of the scale of the local term, a scalar.
        config: temperatures and other settings of the terms.
        terms: names of the terms.
    """
    result = {}
    if "image_image" in terms:
        result["image_image"] = nt_xent_loss(
            encoded.first_view, encoded.second_view, config.view_temperature
        )
    for term, images, described in (
        ("image_text", encoded.first, encoded.described),
        ("second_text", encoded.second, encoded.second_described),
    ):
        if term in terms:
            rows = described.nonzero().squeeze(1)
            same = _same(encoded.report[rows]) if config.identical_texts_match else None
            positives = None if same is None else moved(same, images)
            rows = moved(rows, images)
            result[term] = clip_loss(
                images[rows], encoded.text[rows], logit_scale, positives=positives
            )
    if "local" in terms:
        result["local"] = packed_alignment_loss(
            encoded.patches,
            encoded.patch_counts,
            encoded.sentences,
            encoded.sentence_counts,
            local_scale,
            positives=_same(encoded.report) if config.identical_texts_match else None,
            score_dtype=autocast_dtype(encoded.patches.device),
        )
    return result


def has_contrast(encoded: Encoded, terms: Sequence[str]) -> bool:
    """Return True if a batch has contrast: two images in its term, or two different reports."""
    images = "image_image" in terms and len(encoded.first_view) > 1
    reports = encoded.report[encoded.described].unique()
    return images or (len(reports) > 1 and any(term != "image_image" for term in terms))


def weighted_sum(values: Mapping[str, Tensor], config: LossConfig) -> Tensor:
    """Return the objective: the weighted sum of the terms."""
    return torch.stack([getattr(config, name).weight * values[name] for name in values]).sum()


def _same(reports: Tensor) -> Tensor:
    return reports[:, None] == reports[None, :]


def _key(report: Sequence[str]) -> int:
    """Return 63 bits of the report's SHA-256, equal on all machines, to compare reports as ints."""
    return int.from_bytes(hashlib.sha256("\n".join(report).encode()).digest()[:8], "big") >> 1
