"""Image tower: any timm model with patch tokens or a feature map."""

import operator
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.utils.checkpoint import checkpoint

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers.checks.probe import probe
from mama.towers.checks.words import brief
from mama.towers.freeze import restrict
from mama.towers.packed import check_packable, packed_block
from mama.towers.timm_models import create
from mama.towers.tissue import BACKGROUND, Packing, maximum_of, mean_of, pack, tissue_patches


class ImageFeatures(NamedTuple):
    """Features of N images: `pooled` (N, D), and `patches` (sum P, C) of their real patches.

    The patches are concatenated in the order of the images; `counts` (N,) int64, on the CPU, is the
    number of patches of each image.
    """

    pooled: Tensor
    patches: Tensor
    counts: Tensor


class ImageTower(nn.Module):
    """A timm model that maps (N, 1, H, W) images in [-1, 1] to pooled and patch features.

    The pooled feature is the mean over all tokens before the final norm; patch features are the
    patch tokens after it (MaMA, section 2). `pooling: mean_max` appends the maximum over the same
    tokens, so that a finding that covers few patches is not averaged away; both halves are
    normalised to mean 0 and variance 1 over their channels, because otherwise the larger one would
    dominate.

    With `tokens: tissue`, only patches with a pixel above -1 (background) become tokens. A vision
    transformer does not compute the other patches (position embeddings remain those of the whole
    canvas); a convolutional tower computes them and drops them from its features. Transformers with
    non-standard blocks (EVA and DINOv3, BEiT) support only `tokens: all`. An image without tissue
    keeps all its tokens. An image's features do not depend on the other images of the batch.

    Args:
        config: the experiment's image tower.
        weights: safetensors file or folder to start from if `pretrained`; None downloads from the
            hub.

    Raises:
        ModelError: timm has no such model, the options, weights or size do not fit it, or it does
            not support the configured training or token packing.
    """

    def __init__(self, config: ImageTowerConfig, weights: Path | None = None):
        super().__init__()
        self.model = create(config, weights)
        self.config = config
        self.tissue_only = config.tokens == "tissue"
        width: int = self.model.num_features
        self.patch_width, self.pooled_width = width, width * (1 + (config.pooling == "mean_max"))
        where = f"image.tower {config.tower}"
        self.grid: tuple[int, int]
        self.transformer = isinstance(self.model, VisionTransformer) or _has_tokens(self.model)
        if self.transformer:
            self.grid = _patch_grid(self.model, config.size, where)
            if self.tissue_only:
                check_packable(self.model, where)
        else:
            self.channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            self.grid = self._map_grid(where)
        self._packed_block: Callable[..., Tensor] = packed_block
        restrict(self.model, config)
        if config.pretrained:
            images = _probe_images(config.size)
            probe(self, lambda numbers: self(images[list(numbers)])[:2], where)

    def set_checkpointing(self, enabled: bool) -> None:
        """Switch activation checkpointing: keep only block inputs, recompute blocks backward."""
        self.model.set_grad_checkpointing(enabled)

    def compile_blocks(self) -> None:
        """Compile the blocks, which are alike, once for all and for any number of tokens."""
        if self.transformer and self.tissue_only:
            self._packed_block = torch.compile(packed_block, dynamic=True)
        elif self.transformer:
            for block in self.model.blocks:
                block.compile(dynamic=True)
        else:
            self.model.compile(dynamic=True)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> ImageFeatures:
        """Encode (N, 1, H, W) images.

        Args:
            images: in [-1, 1], background -1.
            kept: the result of `kept`, on the CPU; None computes it, and waits for a GPU.
        """
        kept = self.kept(images).cpu() if kept is None else kept
        tokens, packing = self.encode(images, kept)
        patches = tokens
        if self.transformer:
            patches = self.model.norm(tokens.index_select(0, packing.patches))
        return ImageFeatures(self.pool(tokens, packing), patches, packing.counts)

    def encode(self, images: Tensor, kept: Tensor) -> tuple[Tensor, Packing]:
        """Return the tokens that are pooled, packed (S, C); arguments as in `forward`."""
        if not self.transformer:
            return self._feature_map(images, kept)
        if isinstance(self.model, VisionTransformer):
            return self._vision_transformer(images, kept)
        return self._other_transformer(images, kept)

    def pool(self, tokens: Tensor, packing: Packing) -> Tensor:
        """Return the pooled features (N, D) of packed tokens (S, C)."""
        pooled = mean_of(tokens, packing)
        if self.config.pooling == "mean":
            return pooled
        parts = (pooled, maximum_of(tokens, packing))
        return torch.cat([layer_norm(part, part.shape[-1:]) for part in parts], dim=-1)

    def kept(self, images: Tensor) -> Tensor:
        """Return the patches (N, P) bool that the features of images (N, 1, H, W) contain."""
        if not self.tissue_only:
            return images.new_ones(len(images), self.grid[0] * self.grid[1], dtype=torch.bool)
        tissue = tissue_patches(images, self.grid)
        return tissue | ~tissue.any(1, keepdim=True)

    def _vision_transformer(self, images: Tensor, kept: Tensor) -> tuple[Tensor, Packing]:
        """Return the tokens before the final norm, packed (S, D)."""
        vit = self.model
        tokens = vit._pos_embed(vit.patch_embed(images))
        packing = pack(kept, vit.num_prefix_tokens, images.device)
        run: Any = operator.call
        if self.tissue_only:
            tokens = tokens.flatten(0, 1).index_select(0, packing.rows)
            run = partial(self._packed_block, packing=packing)
        tokens = vit.norm_pre(tokens)
        for block in vit.blocks:
            if vit.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(run, block, tokens, use_reentrant=False)
            else:
                tokens = run(block, tokens)
        return tokens.flatten(0, -2), packing

    def _other_transformer(self, images: Tensor, kept: Tensor) -> tuple[Tensor, Packing]:
        """Return the tokens before the final norm, packed (S, D), if blocks take all patches.

        Such transformers are EVA and BEiT.
        """
        prefix = self.model.num_prefix_tokens
        (tokens,) = self.model.forward_intermediates(
            images,
            indices=1,
            return_prefix_tokens=prefix > 0,
            output_fmt="NLC",
            intermediates_only=True,
        )
        if prefix:
            tokens = torch.cat(tokens[::-1], dim=1)
        return tokens.flatten(0, 1), pack(kept, prefix, images.device)

    def _feature_map(self, images: Tensor, kept: Tensor) -> tuple[Tensor, Packing]:
        """Return the cells of the feature map, packed (S, C)."""
        features = self.channels_first(self.model.forward_features(images))
        packing = pack(kept, 0, images.device)
        cells = features.flatten(2).transpose(1, 2).flatten(0, 1)
        return cells.index_select(0, packing.rows), packing

    def channels_first(self, features: Tensor) -> Tensor:
        """Return a feature map as (N, C, H, W)."""
        return features.permute(0, 3, 1, 2) if self.channels_last else features

    @torch.no_grad()
    def _map_grid(self, where: str) -> tuple[int, int]:
        """Return rows and columns of the feature map."""
        model, size = self.model, self.config.size
        try:
            features = model.eval().forward_features(torch.zeros(1, 1, *size))
        except (AssertionError, RuntimeError) as error:
            raise ModelError(
                f"cannot read images of {size[0]} x {size[1]} pixels ({brief(error)})",
                where=where,
                fix="Choose another image.size, or a tower that accepts any size",
            ) from None
        if features.ndim != 4 or self.channels_first(features).shape[1] != model.num_features:
            raise ModelError(
                "has neither patch tokens nor a feature map",
                where=where,
                fix="Choose a vision transformer or a convolutional tower",
            )
        model.train()
        rows, columns = self.channels_first(features).shape[2:]
        return rows, columns


def _has_tokens(model: Any) -> bool:
    """Return whether a model other than a `VisionTransformer` works on patch tokens."""
    embeds = isinstance(getattr(model, "patch_embed", None), PatchEmbed)
    forward = getattr(model, "forward_intermediates", None)
    return bool(embeds and forward and "return_prefix_tokens" in signature(forward).parameters)


def _patch_grid(model: Any, size: tuple[int, int], where: str) -> tuple[int, int]:
    """Return rows and columns of a transformer's patches, which must cover the canvas."""
    grid = model.patch_embed.grid_size
    patch = model.patch_embed.feat_ratio(as_scalar=False)
    if 0 in grid:
        raise ModelError(
            f"images of {size[0]} x {size[1]} pixels are smaller "
            f"than a patch of {patch[0]} x {patch[1]}",
            where=where,
            fix="Choose a larger image.size or a smaller patch_size",
        )
    if type(model.patch_embed) is PatchEmbed and (size[0] % patch[0] or size[1] % patch[1]):
        covered = [grid[0] * patch[0], grid[1] * patch[1]]
        raise ModelError(
            f"patches of {patch[0]} x {patch[1]} pixels do not cover {size[0]} x {size[1]}",
            where=where,
            fix=f"Set image.size to multiples of the patch size, such as {covered}",
        )
    return grid


def _probe_images(size: tuple[int, int]) -> Tensor:
    """Return two images (2, 1, H, W): noise on the left two thirds or the lower three quarters."""
    noise = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    noise[0, :, :, 2 * size[1] // 3 :] = BACKGROUND
    noise[1, :, : size[0] // 4] = BACKGROUND
    return noise
