"""MaMA: an image tower, a text tower and the heads that bring both into one space."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mama.config import Experiment
from mama.seeds import derive
from mama.towers.base import locate
from mama.towers.image import ImageTower
from mama.towers.text import TextTower, Tokens


class EncodedImages(NamedTuple):
    """`embedding` (N, E) for texts, `view` (N, E) for other views, `patches` (N, P, E) for sentences.

    `patch_mask` (N, P) bool is true where a patch is real.
    """

    embedding: Tensor
    view: Tensor
    patches: Tensor
    patch_mask: Tensor


class EncodedTexts(NamedTuple):
    """`embedding` (N, E), `sentences` (N, S, E) with `sentence_mask` (N, S) true where one is real."""

    embedding: Tensor
    sentences: Tensor
    sentence_mask: Tensor


class MaMA(nn.Module):
    """Multi-view and multi-scale alignment (Du, Onofrey, Dvornek, IPMI 2025, section 2).

    Embeddings are not normalised; the losses and `similarity` do that. The heads' norms are LayerNorm where
    the published code has BatchNorm: batch statistics would differ by site and are neither averaged nor private.
    """

    def __init__(self, image: ImageTower, text: TextTower, experiment: Experiment):
        super().__init__()
        heads = experiment.heads
        width = heads.embedding
        self.image, self.text = image, text
        self.image_projection = nn.Linear(image.pooled_width, width)
        self.text_projection = nn.Linear(text.width, width)
        self.view_head = nn.Sequential(
            nn.Linear(image.pooled_width, heads.view_hidden, bias=False),
            nn.LayerNorm(heads.view_hidden),
            nn.ReLU(),
            nn.Linear(heads.view_hidden, width, bias=False),
            nn.LayerNorm(width),
        )
        self.patch_head = _local_head(image.patch_width, heads.local_hidden, width)
        self.sentence_head = _local_head(text.width, heads.local_hidden, width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.local_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_images(self, images: Tensor, *, local: bool = True) -> EncodedImages:
        """Encode (N, 1, H, W) images in [-1, 1]; without `local` patches stay empty (N, 0, E)."""
        pooled, patches, counts = self.image(images)
        if local:
            patches = pad_sequence(
                self.patch_head(patches).split(counts.tolist()), batch_first=True
            )
        else:
            patches = pooled.new_zeros(len(pooled), 0, 0)
        mask = torch.arange(patches.shape[1]) < counts.unsqueeze(1)
        embedding, view = self.image_projection(pooled), self.view_head(pooled)
        return EncodedImages(embedding, view, patches, mask.to(images.device))

    def encode_texts(self, tokens: Tokens, *, local: bool = True) -> EncodedTexts:
        """Encode a batch of tokenised reports."""
        pooled, sentences, mask = self.text(tokens)
        projected = self.sentence_head(sentences) if local else pooled.new_zeros(*mask.shape, 0)
        return EncodedTexts(self.text_projection(pooled), projected, mask)

    def similarity(self, images: Tensor, texts: Sequence[Sequence[str]]) -> Tensor:
        """Cosine similarity (N, M) of N images (N, 1, H, W) and M texts, each a sequence of sentences."""
        tokens = self.text.tokenise(texts).to(images.device)
        image = F.normalize(self.encode_images(images, local=False).embedding, dim=-1)
        text = F.normalize(self.encode_texts(tokens, local=False).embedding, dim=-1)
        return image @ text.T


def build_model(
    experiment: Experiment, models: Mapping[str, Path] | None = None, *, from_weights: bool = True
) -> MaMA:
    """The experiment's model with its initial weights, equal wherever the same base models are installed.

    Args:
        models: this machine's table of base models, name -> folder or file.
        from_weights: False leaves the towers at random, for a caller that loads a whole state dict.

    Raises:
        ModelError: a tower is missing, damaged or of an unusable kind.
    """
    pretrained = experiment.image.pretrained and from_weights
    located = locate(experiment.image.tower, models) if pretrained else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.seed, "model"))
        image = ImageTower(
            experiment.image.model_copy(update={"pretrained": pretrained}),
            located if isinstance(located, Path) else None,
        )
        text = TextTower(
            experiment.text, locate(experiment.text.tower, models), from_weights=from_weights
        )
        return MaMA(image, text, experiment)


def _local_head(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, out)
    )
