"""The objective of MaMA: four contrastive terms on one batch of study pairs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mama.config import LossConfig
from mama.data.pairs import Batch
from mama.losses import clip_loss, local_alignment_loss, nt_xent_loss
from mama.model import MaMA
from mama.precision import autocast_dtype

TERMS = ("image_text", "second_text", "image_image", "local")


def active_terms(config: LossConfig, progress: float) -> list[str]:
    """The terms with a weight that have started at `progress`, the fraction of the planned steps done."""
    return [
        name
        for name in TERMS
        if getattr(config, name).weight > 0 and progress >= getattr(config, name).start
    ]


def losses(
    model: MaMA, batch: Batch, config: LossConfig, terms: Sequence[str]
) -> dict[str, Tensor]:
    """The named terms on one batch, unweighted scalars.

    An image without a report takes part in the image-image term only; a batch without any report gives 0 for
    the others. Identical texts are each other's positives unless the config follows the paper. Under autocast
    the local term's cosines, its one large matrix product, are in autocast's dtype; all else of the losses is fp32.
    """
    device = batch.first.device
    local = "local" in terms
    two_views = "second_text" in terms or "image_image" in terms
    first = model.encode_images(batch.first, local=local)
    second = model.encode_images(batch.second, local=False) if two_views else None
    result = {}
    if second is not None and "image_image" in terms:
        result["image_image"] = nt_xent_loss(first.view, second.view, config.view_temperature)

    told = [i for i, report in enumerate(batch.reports) if report]
    if not told:
        zero = first.embedding.sum() * 0.0
        return result | {term: zero for term in terms if term != "image_image"}
    rows = torch.tensor(told, device=device)
    reports = [batch.reports[i] for i in told]
    texts = model.encode_texts(model.text.tokenise(reports).to(device), local=local)
    same = identical(reports).to(device) if config.identical_texts_match else None

    if "image_text" in terms:
        result["image_text"] = clip_loss(
            first.embedding[rows], texts.embedding, model.logit_scale, same=same
        )
    if second is not None and "second_text" in terms:
        result["second_text"] = clip_loss(
            second.embedding[rows], texts.embedding, model.logit_scale, same=same
        )
    if local:
        result["local"] = local_alignment_loss(
            first.patches[rows],
            texts.sentences,
            texts.sentence_mask,
            model.local_scale,
            same=same,
            scores=autocast_dtype(device),
        )
    return result


def identical(reports: Sequence[Sequence[str]]) -> Tensor:
    """(N, N) bool: which reports have the same sentences."""
    seen: dict[tuple[str, ...], int] = {}
    kinds = torch.tensor([seen.setdefault(tuple(report), len(seen)) for report in reports])
    return kinds[:, None] == kinds[None, :]
