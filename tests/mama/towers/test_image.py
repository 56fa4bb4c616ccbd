"""The image tower: features equal timm's own, and models that cannot serve are refused in one line."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers.image import ImageTower

TINY = {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}


def tower(name: str, *, pooling: str = "mean", size: tuple[int, int] = (32, 48), **options: Any) -> ImageTower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ImageTowerConfig(tower=name, size=size, options=options, pooling=pooling)
        return ImageTower(config).eval()


def images() -> Tensor:
    return torch.randn(2, 1, 32, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "options", "prefix"),
    [
        ("vit_tiny_r_s16_p8_224", TINY, 1),
        ("vit_tiny_patch16_224", TINY | {"patch_size": 16, "class_token": False, "reg_tokens": 0}, 0),
        ("test_vit2", {}, None),
    ],
)
def test_vit_features_are_those_of_timm(name: str, options: dict, prefix: int | None) -> None:
    """Pooled: mean of all tokens before the final norm. Patches: after it, without class and registers."""
    built = tower(name, pooling="mean", **{k: v for k, v in options.items() if k != "reg_tokens"} if prefix == 0 else options) if prefix != 0 else None
    built = built or pytest.importorskip("timm") and None  # pragma: no cover
