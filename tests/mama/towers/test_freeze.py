"""Trainable parts: adapters alone, the last blocks, or nothing; gradients reach exactly these."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers.image import ImageTower

SIZE = (64, 64)
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


def tower(name: str = "vit_tiny_patch16_224", **values: Any) -> ImageTower:
    narrow = {"embed_dim": 32, "depth": 3, "num_heads": 2} if name.startswith("vit") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = {"tower": name, "size": SIZE, "options": narrow} | values
        return ImageTower(ImageTowerConfig.model_validate(settings))


def images() -> Tensor:
    pixels = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    pixels[:, :, :, 40:] = -1.0
    return pixels


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def with_gradient(model: ImageTower) -> set[str]:
    found = model(images())
    (found.pooled.sum() + found.patches.pow(3).sum()).backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("tokens", ["tissue", "all"])
def test_adapters_start_without_effect_and_alone_get_gradients(tokens: str) -> None:
    plain, adapted = tower(tokens=tokens), tower(tokens=tokens, lora=LORA)
    assert_close(adapted(images()), plain(images()))
    places = [f"model.blocks.{n}.attn.{layer}" for n in range(3) for layer in ("qkv", "proj")]
    assert trained(adapted) == {f"{p}.lora_{ab}.default.weight" for p in places for ab in "AB"}
    # B starts at zero, so at first A has no gradient.
    assert with_gradient(adapted) == {f"{p}.lora_B.default.weight" for p in places}
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    assert (adapted(images()).pooled - plain(images()).pooled).abs().max() > 1e-3


def test_named_targets_are_linear_layers_only() -> None:
    """`proj` also ends the name of the patch embedding, which is a convolution."""
    adapted = tower(lora=LORA | {"targets": ["proj", "fc1"]})
    layers = {name.split(".lora_")[0] for name in trained(adapted)}
    assert layers == {f"model.blocks.{n}.{x}" for n in range(3) for x in ("attn.proj", "mlp.fc1")}


def test_a_convolutional_tower_can_have_adapters() -> None:
    adapted = tower("test_convnext", lora=LORA | {"targets": ["mlp.fc1"]})
    assert trained(adapted)
    assert all(".mlp.fc1.lora_" in name for name in trained(adapted))
    assert with_gradient(adapted)


@pytest.mark.parametrize(
    ("name", "targets", "message"),
    [
        ("vit_tiny_patch16_224", ["query"], "no linear layer name ends in query"),
        ("vit_tiny_patch16_224", ["kv"], "no linear layer name ends in kv"),  # no part of a name
        ("vit_tiny_patch16_224", ["qkv", "query"], "no linear layer name ends in query"),
        ("test_convnext", None, "must be set for a tower that is not a vision transformer"),
    ],
)
def test_targets_that_do_not_fit(name: str, targets: list[str] | None, message: str) -> None:
    with pytest.raises(ModelError) as error:
        tower(name, lora=LORA | {"targets": targets})
    assert str(error.value).startswith(f"image.lora.targets for {name}: {message}")
    assert error.value.fix


@pytest.mark.parametrize("tokens", ["tissue", "all"])
def test_only_the_last_blocks_and_the_final_norm_train(tokens: str) -> None:
    model = tower(trained_blocks=2, tokens=tokens)
    names = trained(model)
    assert {name.split(".")[2] for name in names if ".blocks." in name} == {"1", "2"}
    assert names - {name for name in names if ".blocks." in name} == {
        "model.norm.weight",
        "model.norm.bias",
    }
    assert with_gradient(model) == names


def test_no_block_trains_nothing() -> None:
    model = tower(trained_blocks=0)
    assert not trained(model)
    assert not model(images()).pooled.requires_grad


def test_a_convolutional_tower_trains_its_last_stages() -> None:
    names = trained(tower("test_convnext", trained_blocks=1))
    assert names
    assert all(name.startswith("model.stages.3.") for name in names)


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(ModelError, match=r"the tower has only 3 blocks\. Set it to 3 or less"):
        tower(trained_blocks=4)
