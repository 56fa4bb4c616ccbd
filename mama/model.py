"""MaMA model: an image tower, a text tower and projection heads into a shared embedding space."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mama.config import ComputeConfig, Experiment, HeadsConfig
from mama.system.seeds import derive
from mama.towers.image import ImageTower
from mama.towers.locate import locate
from mama.towers.text import TextTower, Tokens


class EncodedImages(NamedTuple):
    """Embeddings of N images.

    `embedding` (N, E) is compared with texts, `view` (N, E) with other views, and `patches` (sum P,
    E) with sentences. Patches are concatenated in the order of the images. `counts` (N,) int64, on
    the CPU, is the number of patches per image, also if `patches` is omitted.
    """

    embedding: Tensor
    view: Tensor
    patches: Tensor
    counts: Tensor


class EncodedTexts(NamedTuple):
    """Embeddings of N reports: `embedding` (N, E), and `sentences` (sum S, E) in report order.

    `counts` (N,) int64, on the CPU, is the number of sentences per report.
    """

    embedding: Tensor
    sentences: Tensor
    counts: Tensor


class MaMA(nn.Module):
    """Multi-view and multi-scale alignment (Du, Onofrey, Dvornek, IPMI 2025, section 2).

    Embeddings are not normalised; the losses and `similarity` do that. The heads use LayerNorm
    where the published code has BatchNorm (`heads.norm: batch`): batch statistics differ by site
    and are neither averaged nor private. The local heads see only real patches and sentences, never
    padding.
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
            _norm(heads, heads.view_hidden),
            nn.ReLU(),
            nn.Linear(heads.view_hidden, width, bias=False),
            _norm(heads, width),
        )
        self.patch_head = _local_head(heads, image.patch_width)
        self.sentence_head = _local_head(heads, text.width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.local_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_images(
        self, images: Tensor, *, local: bool = True, kept: Tensor | None = None
    ) -> EncodedImages:
        """Encode images (N, 1, H, W) in [-1, 1], background -1; `kept` as in `ImageTower.forward`.

        Without `local`, the patches are empty, (0, E).
        """
        pooled, patches, counts = self.image(images, kept)
        projected = self.patch_head(patches if local else patches[:0])
        return EncodedImages(
            self.image_projection(pooled), self.view_head(pooled), projected, counts
        )

    def encode_texts(self, tokens: Tokens, *, local: bool = True) -> EncodedTexts:
        """Encode a batch of tokenised reports; without `local`, the sentences are empty, (0, E)."""
        pooled, sentences, counts = self.text(tokens)
        projected = self.sentence_head(sentences if local else sentences[:0])
        return EncodedTexts(self.text_projection(pooled), projected, counts)

    def prepare(self, compute: ComputeConfig) -> None:
        """Apply checkpointing and compilation; the results stay the same."""
        self.image.set_checkpointing(compute.checkpointing)
        self.text.set_checkpointing(compute.checkpointing)
        if compute.compile:
            self.image.compile_blocks()
            self.text.compile_blocks()

    def similarity(self, images: Tensor, texts: Sequence[Sequence[str]]) -> Tensor:
        """Return the cosine similarities (N, M) of images (N, 1, H, W) and M sentence lists."""
        tokens = self.text.tokenise(texts).to(images.device)
        image = F.normalize(self.encode_images(images, local=False).embedding, dim=-1)
        text = F.normalize(self.encode_texts(tokens, local=False).embedding, dim=-1)
        return image @ text.T


def build_model(
    experiment: Experiment, models: Mapping[str, Path] | None = None, *, from_weights: bool = True
) -> MaMA:
    """Build the experiment's model with initial weights, reproducible given the same base models.

    Args:
        experiment: architecture and seed.
        models: this machine's base models, name -> folder or file.
        from_weights: False leaves the towers random, for a caller that loads a whole state dict.

    Raises:
        ModelError: a tower is missing, damaged or unusable.
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


def count_parameters(experiment: Experiment, models: Mapping[str, Path] | None = None) -> int:
    """Return the number of parameters of the experiment's model, without allocating them.

    Raises:
        ModelError: as in `build_model`.
    """
    with torch.device("meta"):
        model = build_model(experiment, models, from_weights=False)
    return sum(parameter.numel() for parameter in model.parameters())


def _local_head(heads: HeadsConfig, width: int) -> nn.Sequential:
    """Build a head for patches or sentences.

    The published one ends in a BatchNorm without weights, which centres them.
    """
    last = [_BatchNorm(heads.embedding, affine=False)] if heads.norm == "batch" else []
    return nn.Sequential(
        nn.Linear(width, heads.local_hidden),
        _norm(heads, heads.local_hidden),
        nn.ReLU(),
        nn.Linear(heads.local_hidden, heads.embedding),
        *last,
    )


def _norm(heads: HeadsConfig, width: int) -> nn.Module:
    return nn.LayerNorm(width) if heads.norm == "layer" else _BatchNorm(width)


class _BatchNorm(nn.BatchNorm1d):
    """BatchNorm of (rows, C) that uses the running statistics for a single row."""

    def forward(self, rows: Tensor) -> Tensor:
        if len(rows) > 1:
            return super().forward(rows)
        return F.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
