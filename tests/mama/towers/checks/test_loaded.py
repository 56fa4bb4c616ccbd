"""Checks of a language model's file: prefixes, missing tensors, NaN, adapters, tokeniser."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.checks.words import remark_on_words, unknown_words
from mama.towers.language_model import load_language_model
from mama.towers.text import TextTower

Tensors = dict[str, torch.Tensor]
FILE = "model.safetensors"


def load(folder: Path, **settings: Any) -> Any:
    config = TextTowerConfig(tower="x", **{"max_tokens": 16} | settings)
    return load_language_model(config, folder, from_weights=True)[1]


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(ModelError) as error:
        TextTower(TextTowerConfig(tower="x", **{"max_tokens": 16} | settings), folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> Tensors:
    """Change the weights of a folder; returns them as they were."""
    before = load_file(folder / FILE)
    changed = {name: tensor.clone() for name, tensor in change(dict(before)).items()}
    save_file(changed, folder / FILE, {"format": "pt"})
    return before


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize(
    "prefix", ["module.", "model.text_encoder.", "base_model.model.", "text.transformer.", "a.b.c."]
)
def test_a_prefix_that_all_names_share_is_cut_off(language_model, kind: str, prefix: str) -> None:
    folder = language_model(kind)
    expected = load(folder).state_dict()
    rewrite(folder, prefixed(prefix))
    found = load(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def _old_names(tensors: Tensors) -> Tensors:
    return {
        "bert."
        + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in tensors.items()
    }


def _with_heads(tensors: Tensors) -> Tensors:
    heads = {"cls.predictions.bias": torch.ones(3), "classifier.weight": torch.ones(2, 32)}
    return {"bert." + n: t for n, t in tensors.items()} | heads


def _wrapped_heads(tensors: Tensors) -> Tensors:
    return {"module." + n: t for n, t in _with_heads(tensors).items()}


@pytest.mark.parametrize("names", [prefixed("bert."), _old_names, _with_heads, _wrapped_heads])
def test_names_that_transformers_knows_need_no_word(
    language_model, caplog, names: Callable[[Tensors], Tensors]
) -> None:
    folder = language_model("bert")
    expected = load(folder).state_dict()
    rewrite(folder, names)
    with caplog.at_level(logging.WARNING):
        found = load(folder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert not caplog.records


def test_a_masked_language_model_in_shards(language_model) -> None:
    folder = language_model("bert")
    model = BertForMaskedLM(BertConfig.from_pretrained(folder))
    (folder / FILE).unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert (folder / f"{FILE}.index.json").exists()
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(load(folder).state_dict()[word], model.bert.state_dict()[word])


@pytest.mark.parametrize(
    ("kind", "change", "first"),
    [
        ("bert", lambda t: _without(t, "embeddings.LayerNorm.bias"), "embeddings.LayerNorm.bias"),
        ("gpt2", lambda t: _without(t, "wpe.weight"), "wpe.weight"),
        ("llama", lambda t: _without(t, "norm.weight"), "norm.weight"),
        ("bert", lambda t: {n.replace("query", "q"): v for n, v in t.items()}, "encoder.layer.0"),
        ("roberta", lambda t: {n[::-1]: v for n, v in t.items()}, "embeddings.LayerNorm.bias"),
        (
            "bert",
            lambda t: {("x." if n < "encoder" else "y.") + n: v for n, v in t.items()},
            "embeddings.LayerNorm.bias",
        ),
    ],
)
def test_a_tensor_that_the_file_lacks_is_named(
    language_model, kind: str, change: Callable[[Tensors], Tensors], first: str
) -> None:
    folder = language_model(kind)
    rewrite(folder, change)
    said = refusal(folder)
    assert re.search(
        rf"text\.tower x: its file lacks \d+ of \d+ tensors, the first is {first}", said
    )


def _without(tensors: Tensors, name: str) -> Tensors:
    return {n: tensor for n, tensor in tensors.items() if n != name}


def test_another_architectures_file(language_model) -> None:
    folder, other = language_model("bert"), language_model("gpt2")
    (folder / FILE).write_bytes((other / FILE).read_bytes())
    assert "tensors, the first is embeddings.LayerNorm.bias" in refusal(folder)


def test_more_layers_than_the_file_has(language_model) -> None:
    folder = language_model("bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    assert "tensors, the first is encoder.layer.3." in refusal(folder)
    assert len(load(folder, layers=2).encoder.layer) == 2


def test_fewer_layers_than_the_file_has_is_worth_a_line(language_model, caplog) -> None:
    folder = language_model("bert")
    config = json.loads((folder / "config.json").read_text())
    with caplog.at_level(logging.WARNING):
        load(folder, layers=2)
        assert not caplog.records
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
        load(folder)
    (line,) = caplog.messages
    assert (
        "16 tensors of its file do not belong to the model, the first is encoder.layer.2." in line
    )


def test_two_models_in_one_file(language_model) -> None:
    folder = language_model("bert")
    rewrite(folder, lambda t: prefixed("text.")(t) | prefixed("momentum.")(t))
    assert "holds several such models: momentum., text." in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_are_numbers(language_model, value: float) -> None:
    folder = language_model("gpt2")

    def spoil(tensors: Tensors) -> Tensors:
        tensors["h.1.ln_2.weight"][3] = value
        return tensors

    rewrite(folder, spoil)
    assert "its tensor h.1.ln_2.weight is not finite" in refusal(folder)


@pytest.mark.parametrize("file", ["adapter_config.json", "lora/adapter_model.safetensors"])
def test_an_adapter_beside_the_base(language_model, file: str) -> None:
    folder = language_model("bert")
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("{}")
    assert f"{folder / file}: is an adapter in the base model's folder. Merge it" in refusal(folder)


def test_an_adapter_inside_the_file(language_model) -> None:
    folder = language_model("bert")
    lora = {"encoder.layer.0.attention.self.query.lora_A.weight": torch.ones(2, 32)}
    rewrite(folder, lambda tensors: tensors | lora)
    assert "holds adapters that were not merged" in refusal(folder)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_a_folder_without_a_tokeniser(language_model, kind: str) -> None:
    folder = language_model(kind)
    for file in folder.glob("*token*"):
        file.unlink()
    said = refusal(folder)
    assert "single word" in said or "cannot be loaded" in said or "its tokeniser fails" in said


@pytest.mark.parametrize("added", ["mass-like", {"sep_token": "[END]"}, {"cls_token": "[GO]"}])
def test_a_token_without_an_embedding(language_model, added: str | dict[str, str]) -> None:
    folder = language_model("bert")
    tokeniser = AutoTokenizer.from_pretrained(folder)
    if isinstance(added, dict):
        tokeniser.add_special_tokens(added)
    else:
        tokeniser.add_tokens([added])
    tokeniser.save_pretrained(folder)
    token = added if isinstance(added, str) else next(iter(added.values()))
    assert f"has 1 tokens beyond the 12 rows of its embeddings, the first is '{token}' (12)" in (
        refusal(folder)
    )


def test_padding_needs_no_embedding(language_model) -> None:
    folder = language_model("gpt2")
    tokeniser = AutoTokenizer.from_pretrained(folder)
    tokeniser.add_special_tokens({"pad_token": "[NOTHING]"})
    tokeniser.save_pretrained(folder)
    TextTower(TextTowerConfig(tower="x", max_tokens=16), folder)


def test_the_share_of_unknown_words(language_model) -> None:
    tokeniser = AutoTokenizer.from_pretrained(language_model("bert"))
    assert unknown_words(tokeniser, ["no mass 12 .", "no Masse"]) == (1, 4)
    assert unknown_words(tokeniser, []) == (0, 0)
    assert remark_on_words(tokeniser, []) is None
    assert remark_on_words(tokeniser, ["no mass"] * 19 + ["no x"]) is None
    said = remark_on_words(tokeniser, ["keine Masse", "no mass"])
    assert said == "the text tower's tokeniser does not know 50 % of the reports' words"


def test_a_tower_that_mixes_reports_is_found(language_model, monkeypatch) -> None:
    folder = language_model("bert")
    plain = BertModel.forward

    def mixed(self: Any, **inputs: Any) -> Any:
        result = plain(self, **inputs)
        result.last_hidden_state = result.last_hidden_state - result.last_hidden_state.mean(0)
        return result

    TextTower(TextTowerConfig(tower="x", max_tokens=16), folder)
    monkeypatch.setattr(BertModel, "forward", mixed)
    assert "features" in refusal(folder)


def test_the_probe_leaves_no_trace(language_model, monkeypatch) -> None:
    folder, config = language_model("bert"), TextTowerConfig(tower="x", max_tokens=16)

    def built() -> tuple[TextTower, torch.Tensor]:
        torch.manual_seed(5)
        return TextTower(config, folder), torch.rand(1)

    tower, following = built()
    monkeypatch.setattr("mama.towers.text.probe", lambda *parts: None)
    without, expected = built()
    assert torch.equal(following, expected)
    assert all(parameter.grad is None for parameter in tower.parameters())
    modes = [module.training for module in tower.modules()]
    assert modes == [module.training for module in without.modules()]
