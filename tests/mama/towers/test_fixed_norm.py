"""Frozen BatchNorm: evaluation-mode features in any batch and mode, and nothing to exchange."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers.image import ImageTower

TOWERS = ("test_resnet", "test_efficientnet", "regnetx_002")


def tower(name: str, weights: Path | None = None, **settings: Any) -> ImageTower:
    values = {"tower": name, "size": (64, 64), "pretrained": weights is not None, "tokens": "all"}
    return ImageTower(ImageTowerConfig.model_validate(values | settings), weights)


@pytest.fixture
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of a model whose statistics are not those of a fresh one."""
    torch.manual_seed(1)
    model = timm.create_model(request.param, in_chans=1, num_classes=0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "weights"), [(n, n) for n in TOWERS], indirect=["weights"], ids=TOWERS
)
def test_a_frozen_tower_computes_what_evaluation_does(name: str, weights: Path) -> None:
    images = torch.randn(3, 1, 64, 64)
    reference = timm.create_model(name, in_chans=1, num_classes=0)
    reference.load_state_dict(load_file(weights))
    with torch.no_grad():
        expected = reference.eval().forward_features(images).mean((2, 3))
    built = tower(name, weights, trained_blocks=0).train()
    assert_close(built(images).pooled, expected, rtol=1e-4, atol=1e-5)
    assert_close(built(images[:1]).pooled, expected[:1], rtol=1e-4, atol=1e-5)
    assert not any("running" in key for key, _ in built.named_buffers())
    assert not any(parameter.requires_grad for parameter in built.parameters())


@pytest.mark.parametrize("trained", [None, 1])
def test_what_is_trained_keeps_no_statistics(trained: int | None) -> None:
    with pytest.raises(ModelError, match=r"or freeze it with image\.trained_blocks: 0"):
        tower("test_efficientnet", trained_blocks=trained)


@pytest.mark.parametrize("weights", ["test_resnet"], indirect=True)
def test_weights_are_numbers(weights: Path) -> None:
    state = load_file(weights)
    state["bn1.running_var"][2] = float("nan")
    save_file(state, weights)
    with pytest.raises(ModelError, match=r"its tensor bn1\.running_var is not finite"):
        tower("test_resnet", weights, trained_blocks=0)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224"])
def test_feature_maps_with_channels_last(name: str) -> None:
    built = tower(name, size=(64, 64), options={"embed_dim": 24})
    features = built(torch.randn(2, 1, 64, 64))
    assert features.pooled.shape == (2, built.pooled_width)
    assert features.patches.shape == (2 * built.grid[0] * built.grid[1], built.patch_width)


def test_adapters_on_a_tower_without_linear_layers() -> None:
    with pytest.raises(ModelError, match="the tower has no linear layers"):
        tower("convnext_atto", lora={"rank": 2}, options={"dims": [8, 8, 8, 8]})
