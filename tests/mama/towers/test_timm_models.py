"""Weights of timm models: their sources, and one-line errors for every way to lack them."""

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor
from torch.testing import assert_close

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers.timm_models import create


def model(weights: Path | None = None, **values: Any) -> Any:
    settings = {"tower": "test_vit", "size": (32, 48), "pretrained": weights is not None} | values
    return create(ImageTowerConfig.model_validate(settings), weights)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "test_vit").mkdir()
    path = tmp_path / "test_vit" / "model.safetensors"
    save_file(model().state_dict(), path)
    return path


def weights_of(built: Any) -> dict[str, Tensor]:
    return built.state_dict()


@pytest.mark.parametrize("folder", [False, True])
def test_weights_come_from_a_file_or_the_folder_that_holds_it(file: Path, folder: bool) -> None:
    assert_close(weights_of(model(file.parent if folder else file)), load_file(file))


def test_position_embeddings_of_another_grid_are_resampled(file: Path) -> None:
    saved = load_file(file)["pos_embed"]  # a class token and 2 x 3 patches
    square = torch.randn(1, 1 + 4, saved.shape[2])
    save_file(load_file(file) | {"pos_embed": square}, file)
    expected = resample_abs_pos_embed(square, (2, 3), num_prefix_tokens=1)
    assert_close(weights_of(model(file))["pos_embed"], expected)


def test_three_channels_become_one_and_a_classifier_is_left_out(file: Path) -> None:
    saved = load_file(file)
    colour = torch.randn(64, 3, 16, 16)
    head = {"head.weight": torch.randn(1000, 64), "head.bias": torch.randn(1000)}
    save_file(saved | head | {"patch_embed.proj.weight": colour}, file)
    built = model(file)
    assert_close(weights_of(built)["patch_embed.proj.weight"], colour.sum(1, keepdim=True))
    assert not any("head" in name for name in weights_of(built))


def test_nothing_of_a_classifier_remains_to_be_trained() -> None:
    built = model(tower="vit_medium_patch16_gap_240", options={"depth": 1})
    assert not any("fc_norm" in name for name in weights_of(built))
    assert "head.norm.weight" not in weights_of(model(tower="test_convnext"))


def test_a_deit_takes_the_canvas_too() -> None:
    assert model(tower="deit_tiny_patch16_224", options={"depth": 1}).patch_embed.grid_size == (
        2,
        3,
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("missing", "is not a safetensors file"),
        ("pickle", "is not a safetensors file"),
        ("empty folder", "contains no model.safetensors"),
        ("lacks", "its weights file belongs to another model"),
        ("shape", "its weights file belongs to another model"),
    ],
)
def test_weights_that_do_not_serve(file: Path, broken: str, message: str) -> None:
    saved = load_file(file)
    if broken == "lacks":
        del saved["blocks.0.attn.qkv.weight"]
    if broken == "shape":
        saved["blocks.0.attn.qkv.weight"] = torch.zeros(3, 3)
    save_file(saved, file)
    if broken == "pickle":
        torch.save(saved, file)
    if broken in ("missing", "empty folder"):
        file.unlink()
    with pytest.raises(ModelError, match=message) as error:
        model(file.parent if broken == "empty folder" else file)
    assert "\n" not in str(error.value)
    assert "test_vit" in str(error.value)


def test_without_network_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as error:
        model(pretrained=True)
    assert str(error.value).startswith("image.tower test_vit: its weights cannot be downloaded")
    assert "specify a safetensors file with --model NAME=PATH" in error.value.fix
    assert "\n" not in str(error.value)


def test_a_size_that_a_stems_patches_do_not_divide() -> None:
    with pytest.raises(ModelError) as error:
        model(tower="vit_tiny_r_s16_p8_224", size=(36, 32), options={"patch_size": 2, "depth": 1})
    assert "image.size for vit_tiny_r_s16_p8_224: its patches do not divide images of 36 x 32" in (
        str(error.value)
    )
