"""Trainable part of the image tower: everything, adapters alone, or the last blocks."""

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mama.config.towers import ImageTowerConfig, LoraConfig
from mama.errors import ModelError
from mama.towers.lora import adapt, choose_among

VISION_TRANSFORMER_TARGETS = ["attn.qkv", "attn.proj"]


def restrict(model: nn.Module, config: ImageTowerConfig) -> None:
    """Freeze all but the trained part of a tower, after adding adapters if configured.

    Raises:
        ModelError: a target of the adapters matches no layer, or the tower has fewer blocks than
            `trained_blocks`.
    """
    if config.lora is not None:
        _adapt(model, config.lora, f"image.lora.targets for {config.tower}")
    elif config.trained_blocks is not None:
        _last_blocks(model, config.trained_blocks, f"image.trained_blocks for {config.tower}")


def _adapt(model: nn.Module, lora: LoraConfig, where: str) -> None:
    if not any(isinstance(module, nn.Linear) for module in model.modules()):
        raise ModelError(
            "the tower has no linear layers",
            where=where,
            fix="Remove image.lora and set image.trained_blocks",
        )
    targets = lora.targets
    if targets is None and isinstance(model, VisionTransformer):
        targets = VISION_TRANSFORMER_TARGETS
    if targets is None:
        raise ModelError(
            "must be set for a tower that is not a vision transformer",
            where=where,
            fix=choose_among(model),
        )
    adapt(model, lora, targets, where)


def _last_blocks(model: Any, count: int, where: str) -> None:
    """Train the last `count` transformer blocks or convolutional stages, and the final norm."""
    parts = (getattr(model, name, None) for name in ("blocks", "stages", "layers"))
    blocks = next((part for part in parts if part), ())
    if count > len(blocks):
        raise ModelError(
            f"the tower has only {len(blocks)} blocks",
            where=where,
            fix=f"Set it to {len(blocks)} or less",
        )
    model.requires_grad_(False)
    if count == 0:
        return
    for block in blocks[-count:]:
        block.requires_grad_(True)
    if isinstance(getattr(model, "norm", None), nn.Module):
        model.norm.requires_grad_(True)
