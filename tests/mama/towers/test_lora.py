"""LoRA: the right layers of each architecture, GPT-2's transposed ones, nothing else trained."""

import warnings

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.lora import add_lora


def config(**lora: object) -> TextTowerConfig:
    return TextTowerConfig.model_validate({"tower": "x", "lora": {"rank": 2, "alpha": 6} | lora})


@pytest.mark.parametrize(
    ("kind", "targets", "layers"),
    [
        ("bert", None, ["query", "value"]),
        ("roberta", None, ["query", "value"]),
        ("gpt2", None, ["c_attn"]),
        ("llama", None, ["q_proj", "v_proj"]),
        ("bert", ["key", "intermediate.dense"], ["key", "dense"]),
    ],
)
def test_targets_are_given_or_the_architectures_own(
    language_model, kind: str, targets: list[str] | None, layers: list[str]
) -> None:
    backbone = AutoModel.from_pretrained(language_model(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        add_lora(backbone, config(targets=targets))
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert {name.split(".")[-4] for name in trained} == set(layers)
    assert {name.split(".")[-3] for name in trained} == {"lora_A", "lora_B"}
    adapted = {name.rsplit(".lora_", 1)[0] for name in trained}
    assert len(adapted) == len(layers) * backbone.config.num_hidden_layers
    assert not any(name.endswith("attention.output.dense") for name in adapted)


@pytest.mark.parametrize(("kind", "target"), [("gpt2", "c_attn"), ("bert", "query")])
def test_an_adapter_adds_its_two_matrices_scaled(language_model, kind: str, target: str) -> None:
    backbone = AutoModel.from_pretrained(language_model(kind))
    add_lora(backbone, config(targets=[target]))
    layer = next(m for name, m in backbone.eval().named_modules() if name.endswith(target))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        b.normal_(generator=generator)
        inputs = torch.randn(5, 32, generator=generator)
        plain = layer.base_layer(inputs)
        assert a.shape == (2, 32)
        assert_close(layer(inputs), plain + 3 * inputs @ (b @ a).T)


def test_a_target_that_matches_nothing(language_model) -> None:
    backbone = AutoModel.from_pretrained(language_model("bert"))
    with pytest.raises(ModelError) as error:
        add_lora(backbone, config(targets=["query", "uery"]))
    assert str(error.value) == (
        "text.lora.targets for x: no linear layer name ends in uery. "
        "Choose among: dense, key, query, value"
    )


def test_a_target_that_cannot_be_adapted(language_model) -> None:
    backbone = AutoModel.from_pretrained(language_model("gpt2"))
    with pytest.raises(ModelError) as error:
        add_lora(backbone, config(targets=["ln_1"]))
    assert str(error.value) == (
        "text.lora.targets for x: no linear layer name ends in ln_1. "
        "Choose among: c_attn, c_fc, c_proj"
    )


def test_an_architecture_without_known_targets(language_model) -> None:
    backbone = AutoModel.from_pretrained(language_model("olmo"))
    with pytest.raises(ModelError) as error:
        add_lora(backbone, config())
    assert "no attention projections are known for the architecture olmo. " in str(error.value)
    assert str(error.value).endswith(
        "Choose among: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )
