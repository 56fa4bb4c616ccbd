"""Guidance of local training by the global model."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy

from torch import Tensor

from mama.data.pairs import Batch
from mama.losses.guidance import guidance_loss
from mama.losses.matching import moved
from mama.model import MaMA
from mama.training.objective import Encoded, encode

Autocast = Callable[[], AbstractContextManager]


class GlobalAnchor:
    """Copy of the round's global model, whose embeddings anchor those of the model in training.

    Shuai and Shen, "Distributionally Robust Alignment for Medical Federated Vision-Language
    Pre-training Under Data Heterogeneity", 2024 (arXiv 2404.03854, FedAID and FedDRA): only their
    guidance, without the search for the worst mixture of sites. Each step costs an additional
    forward pass of one view and text; the trained parameters take twice the memory, frozen ones are
    shared.

    Args:
        model: the model with the global weights; it is not modified.
        weight: weight of the term.
    """

    def __init__(self, model: MaMA, weight: float):
        frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
        self.model = deepcopy(model, frozen).eval()
        self.weight = weight

    def encode(self, batch: Batch, autocast: Autocast) -> Encoded:
        """Return the anchors: embeddings of first views and reports, without dropout."""
        with autocast():
            return encode(self.model, batch, ())


def guidance(encoded: Encoded, anchor: Encoded) -> Tensor:
    """Return the pull of images towards their anchors, plus that of the existing reports."""
    described = moved(encoded.described.nonzero().squeeze(1), encoded.text)
    images = guidance_loss(encoded.first, anchor.first)
    return images + guidance_loss(encoded.text[described], anchor.text[described])
