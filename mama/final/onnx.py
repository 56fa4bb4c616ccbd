"""The image tower with its projection as an ONNX file, for any number of images."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mama.errors import ModelError
from mama.final.merged import merged
from mama.model import MaMA
from mama.towers.tissue import BACKGROUND

OPSET = 18
NEEDED = ("onnx", "onnxscript")


class FixedCanvas(nn.Module):
    """Image tower and projection on whole canvases, with background patches masked.

    `ImageTower` packs the tissue of a batch, so that shapes depend on pixels, which ONNX cannot
    express. Here every patch is a token, and masks leave those of background out of attention and
    pooling. The outputs are equal up to rounding.

    Args:
        model: the model whose images are encoded; it is copied.

    Raises:
        ModelError: the patches of the feature map do not divide the canvas evenly.
    """

    def __init__(self, model: MaMA):
        super().__init__()
        self.tower, self.projection = merged(model.image), merged(model.image_projection)
        self.tower.model.set_grad_checkpointing(False)
        size, grid = self.tower.config.size, self.tower.grid
        if size[0] % grid[0] or size[1] % grid[1]:
            raise ModelError(
                f"{grid[0]} x {grid[1]} patches do not divide {size[0]} x {size[1]} pixels",
                where=f"image.size for {self.tower.config.tower}",
                fix="Export without ONNX: --no-onnx",
            )
        self.patch = (size[0] // grid[0], size[1] // grid[1])

    def forward(self, images: Tensor) -> Tensor:
        """Return unit vectors (N, E) of images (N, 1, H, W) in [-1, 1], background -1."""
        tokens, kept = self._tokens(images)
        mask = kept.unsqueeze(-1)
        pooled = (tokens * mask).sum(1) / mask.sum(1)
        if self.tower.config.pooling == "mean_max":
            largest = tokens.masked_fill(~mask, -torch.inf).amax(1)
            parts = [F.layer_norm(part, part.shape[-1:]) for part in (pooled, largest)]
            pooled = torch.cat(parts, dim=-1)
        return F.normalize(self.projection(pooled), dim=-1)

    def _tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return all tokens (N, T, C), and which of them are pooled, (N, T) bool."""
        model, kept = self.tower.model, self._kept(images)
        if not self.tower.transformer:
            features = self.tower.channels_first(model.forward_features(images))
            return features.flatten(2).transpose(1, 2), kept
        prefix = model.num_prefix_tokens
        kept = torch.cat([torch.ones_like(kept[:, :1]).expand(-1, prefix), kept], dim=1)
        if not isinstance(model, VisionTransformer):
            return self._other_tokens(images, prefix), kept
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(images)))
        mask = kept[:, None, None, :] if self.tower.tissue_only else None
        for block in model.blocks:
            tokens = block(tokens, attn_mask=mask)
        return tokens, kept

    def _other_tokens(self, images: Tensor, prefix: int) -> Tensor:
        (found,) = self.tower.model.forward_intermediates(
            images,
            indices=1,
            return_prefix_tokens=prefix > 0,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return torch.cat(found[::-1], dim=1) if prefix else found

    def _kept(self, images: Tensor) -> Tensor:
        tissue = F.max_pool2d(images, self.patch).flatten(1) > BACKGROUND
        if not self.tower.tissue_only:
            return torch.ones_like(tissue)
        return tissue | ~tissue.any(1, keepdim=True)


def can_write() -> bool:
    """Return True if the packages of the extra `export` are installed."""
    return all(find_spec(name) for name in NEEDED)


def write_onnx(model: MaMA, path: Path) -> None:
    """Write the file: input `images` (N, 1, H, W), output `embedding` (N, E).

    Raises:
        ModelError: PyTorch cannot export the tower.
    """
    network = FixedCanvas(model)
    example = torch.full((2, 1, *model.image.config.size), BACKGROUND)
    example[:, :, ::2] = 0.5
    batch = torch.export.Dim("batch", min=1, max=4096)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    options: dict[str, Any] = {"dynamic_shapes": {"images": {0: batch}}, "opset_version": OPSET}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                path,
                input_names=["images"],
                output_names=["embedding"],
                dynamo=True,
                external_data=False,
                verbose=False,
                **options,
            )
    except Exception as error:
        raise ModelError(
            f"PyTorch cannot export it to ONNX ({type(error).__name__})",
            where=f"image.tower {model.image.config.tower}",
            fix="Export without ONNX: --no-onnx",
        ) from None
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
