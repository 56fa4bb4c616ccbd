"""The image tower: any timm model that has patch tokens or a feature map."""

from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from mama.config import ImageTowerConfig
from mama.errors import ModelError


class ImageFeatures(NamedTuple):
    """`pooled` (N, D) is the image's feature, `patches` (N, P, C) those of its patches."""

    pooled: Tensor
    patches: Tensor
    counts: Tensor


class ImageTower(nn.Module):
    """A timm model that turns (N, 1, H, W) images in [-1, 1] into pooled and patch features.

    The pooled feature is the mean over all tokens before the final norm, patch features are the patch tokens
    after it (MaMA, section 2). With `pooling: mean_max` the maximum over the same tokens is appended to the
    mean, so that a finding that covers few patches is not averaged away; both are brought to mean 0 and
    variance 1 over their channels, or the larger would drown the other.

    Args:
        weights: a safetensors file to start from when the config says `pretrained`; None asks the hub.

    Raises:
        ModelError: timm has no such model, the options do not fit it, or it keeps running statistics.
    """

    def __init__(self, config: ImageTowerConfig, weights: Path | None = None):
        super().__init__()
        self.model: Any = _create(config, weights)
        self.size = config.size
        self.config = config
        self.pooling = config.pooling
        try:
            with torch.no_grad():
                pooled, patches, _ = self.eval()(torch.zeros(1, 1, *config.size))
        except (AssertionError, RuntimeError):
            raise ModelError(
                f"cannot read images of {config.size[0]} x {config.size[1]} pixels",
                where=f"image.tower {config.tower}",
                fix="Choose a tower that takes any size",
            ) from None
        if (
            not isinstance(self.model, VisionTransformer)
            and patches.shape[-1] != self.model.num_features
        ):
            raise ModelError(
                "has neither patch tokens nor a feature map with channels first",
                where=f"image.tower {config.tower}",
                fix="Choose a vision transformer or a convolutional tower",
            )
        self.pooled_width, self.patch_width = pooled.shape[-1], patches.shape[-1]
        self.train()

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode (N, 1, H, W) images."""
        if isinstance(self.model, VisionTransformer):
            tokens, patches = self._vision_transformer(images)
        else:
            tokens = patches = self.model.forward_features(images).flatten(2).transpose(1, 2)
        pooled = tokens.mean(1)
        if self.pooling == "mean_max":
            parts = (pooled, tokens.amax(1))
            pooled = torch.cat([layer_norm(part, part.shape[-1:]) for part in parts], dim=-1)
        counts = torch.full((len(images),), patches.shape[1])
        return ImageFeatures(pooled, patches.flatten(0, 1), counts)

    def set_checkpointing(self, on):
        pass

    def _vision_transformer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        vit = self.model
        tokens = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        tokens = vit.blocks(tokens)
        return tokens, vit.norm(tokens)[:, vit.num_prefix_tokens :]


def _create(config: ImageTowerConfig, weights: Path | None) -> nn.Module:
    options: dict[str, Any] = dict(config.options)
    if "vit" in config.tower:
        options["img_size"] = config.size
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"file": str(weights)}
    try:
        model = timm.create_model(
            config.tower,
            pretrained=config.pretrained,
            in_chans=1,
            num_classes=0,
            **options,
        )
    except Exception as error:
        raise ModelError(
            f"timm cannot build it ({type(error).__name__}: {str(error).splitlines()[0][:120]})",
            where=f"image.tower {config.tower}",
            fix="Choose a name from timm.list_models() and options that it has; "
            "offline, map the name to a weights file under `models` in the site file",
        ) from None
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ModelError(
            "keeps running statistics (BatchNorm), which are neither averaged nor private",
            where=f"image.tower {config.tower}",
            fix="Choose a tower with LayerNorm or GroupNorm",
        )
    return model
