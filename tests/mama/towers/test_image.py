"""The image tower: features equal timm's own, and models that cannot serve are refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers.image import ImageTower

SIZE = (32, 48)
NARROW = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def config(name: str, pooling: str = "mean", **options: Any) -> ImageTowerConfig:
    return ImageTowerConfig.model_validate(
        {"tower": name, "size": SIZE, "options": options, "pooling": pooling}
    )


def tower(name: str, pooling: str = "mean", **options: Any) -> ImageTower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ImageTower(config(name, pooling, **options)).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "options", "prefix", "patches"),
    [
        ("vit_tiny_r_s16_p8_224", NARROW | {"patch_size": 2}, 1, 24),  # on a stem of stride 4
        ("vit_tiny_patch16_224", NARROW, 1, 24),
        ("vit_medium_patch16_gap_240", NARROW, 0, 24),  # no class token
        ("vit_medium_patch16_reg4_gap_256", NARROW, 4, 24),  # four registers
        ("test_vit2", {}, 1, 6),
    ],
)
def test_vision_transformer_features_are_timms(
    name: str, options: dict[str, Any], prefix: int, patches: int, images: Tensor
) -> None:
    """Pooled: the mean over all tokens before the final norm. Patches: the patch tokens after it."""
    built = tower(name, **options)
    tokens: list[Tensor] = []
    built.model.blocks[-1].register_forward_hook(lambda *call: tokens.append(call[2]))
    found = built(images)
    expected = built.model.forward_features(images)
    assert expected.shape[1] == prefix + patches
    assert_close(found.patches, expected[:, prefix:])
    assert_close(found.pooled, tokens[0].mean(1))
    assert found.pooled.std() > 0.01  # not a constant


@pytest.mark.parametrize("name", ["test_convnext", "test_nfnet", "test_efficientnet_gn"])
def test_feature_maps_are_read_row_by_row(name: str, images: Tensor) -> None:
    built = tower(name)
    images = torch.nn.functional.interpolate(images, (64, 96))
    found, expected = built(images), built.model.forward_features(images)
    height, width = expected.shape[2:]
    assert (height, width) == (2, 3)
    assert found.patches.shape == (2, 6, expected.shape[1])
    assert_close(found.patches[:, 1 * width + 2], expected[:, :, 1, 2])
    assert_close(found.pooled, expected.mean((2, 3)))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_convnext"])
def test_mean_max_standardises_mean_and_maximum_over_tokens(name: str, images: Tensor) -> None:
    built = tower(name, "mean_max", **(NARROW if "vit" in name else {}))
    found = built(images)
    if "vit" in name:
        seen: list[Tensor] = []
        hook = built.model.blocks[-1].register_forward_hook(lambda *call: seen.append(call[2]))
        built(images)
        hook.remove()
        tokens = seen[0]
    else:
        tokens = found.patches
    parts = [tokens.mean(1), tokens.amax(1)]
    centred = [part - part.mean(1, keepdim=True) for part in parts]
    expected = [part / (part.var(1, keepdim=True, correction=0) + 1e-5).sqrt() for part in centred]
    assert_close(found.pooled, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_widths_are_those_of_the_features(images: Tensor) -> None:
    built = tower("vit_tiny_patch16_224", "mean_max", **NARROW)
    found = built(images)
    assert (built.pooled_width, built.patch_width) == (64, 32)
    assert (found.pooled.shape[1], found.patches.shape[2]) == (64, 32)


def test_a_new_tower_is_in_training_mode() -> None:
    assert ImageTower(config("test_convnext")).training


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_tower", {}, "timm cannot build it (RuntimeError: Unknown model"),
        ("vit_tiny_patch16_224", {"dims": [1]}, "timm cannot build it (TypeError"),
        ("test_resnet", {}, "keeps running statistics (BatchNorm)"),
        ("test_efficientnet", {}, "keeps running statistics (BatchNorm)"),
        ("mixer_s32_224", {}, "cannot read images of"),
        ("test_mambaout", {}, "has neither patch tokens nor a feature map"),
    ],
)
def test_towers_that_cannot_serve(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        ImageTower(config(name, **options))
    assert str(error.value).startswith(f"image.tower {name}: {message}")
    assert "\n" not in str(error.value)
    assert error.value.fix


def test_pretrained_weights_come_from_the_given_file(tmp_path: Path, images: Tensor) -> None:
    source = tower("test_vit")
    save_file(source.model.state_dict(), tmp_path / "weights.safetensors")
    asked = config("test_vit").model_copy(update={"pretrained": True})
    torch.manual_seed(99)
    loaded = ImageTower(asked, tmp_path / "weights.safetensors").eval()
    unlike = ImageTower(config("test_vit")).eval()
    assert_close(loaded(images).patches, source(images).patches)
    assert not torch.allclose(unlike(images).patches, source(images).patches)
