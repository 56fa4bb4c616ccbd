"""The global model as a guide to local training."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy

from torch import Tensor

from mama.data.pairs import Batch
from mama.losses.guidance import guidance_loss
from mama.model import MaMA
from mama.objective import Encoded, encode

Autocast = Callable[[], AbstractContextManager]


class Guide:
    """A copy of the round's global model, whose embeddings are anchors for those of the model in training.

    Shuai and Shen, "Distributionally Robust Alignment for Medical Federated Vision-Language Pre-training Under Data
    Heterogeneity", 2024 (arXiv 2404.03854, FedAID and FedDRA): their guidance alone, without their search for the
    worst mixture of sites. It costs the forward pass of one view and text more a step, and memory for the trained
    parameters once more; frozen ones are shared.

    Args:
        model: holding the global weights; it is not changed.
        weight: of the term.
    """

    def __init__(self, model: MaMA, weight: float):
        frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
        self.model = deepcopy(model, frozen).eval()
        self.weight = weight

    def encode(self, batch: Batch, autocast: Autocast) -> Encoded:
        """The anchors: embeddings of first views and reports, without dropout; nothing else."""
        with autocast():
            return encode(self.model, batch, ())


def guidance(encoded: Encoded, anchor: Encoded) -> Tensor:
    """The pull of a batch's images towards their anchors, plus that of the texts of studies with a report."""
    told = encoded.told.nonzero().squeeze(1)
    images = guidance_loss(encoded.first, anchor.first)
    return images + guidance_loss(encoded.text[told], anchor.text[told])
