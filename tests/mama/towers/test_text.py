"""The text tower: transformers' own states, sentences at their separators, and only LoRA and separator trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel, AutoTokenizer

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.base import locate
from mama.towers.text import TextTower

REPORT = ["The breast is almost entirely fatty.", "No mass.", "Benign calcifications on the left."]
SHORT = ["No mass."]


def tower(name: str, folder: str | Path, **settings: Any) -> TextTower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TextTower(TextTowerConfig(tower=name, **settings), folder).eval()


@pytest.fixture(scope="module")
def minilm() -> TextTower:
    return tower("all-MiniLM-L6-v2", locate("all-MiniLM-L6-v2"))


@pytest.fixture
def tiny(base_models: dict[str, Path]) -> TextTower:
    return tower("tiny-bert", base_models["tiny-bert"], max_tokens=8)


def test_states_are_those_of_the_base_model(minilm: TextTower) -> None:
    """Before training neither LoRA nor the separator changes anything."""
    folder = locate("all-MiniLM-L6-v2")
    tokeniser, plain = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    text = " [SEP] ".join(REPORT)
    ids = tokeniser(text, return_tensors="pt")["input_ids"]
    tokens = minilm.tokenise([REPORT])
    assert tokens.ids.tolist() == ids.tolist()
    with torch.no_grad():
        expected = plain.eval()(ids).last_hidden_state
        found = minilm(tokens)
    assert_close(found.pooled, expected.mean(1), rtol=1e-4, atol=1e-5)
    ends = (ids[0] == tokeniser.sep_token_id).nonzero().squeeze(1)
    assert tokens.separators[0].tolist() == ends.tolist()
    assert_close(found.sentences[0], expected[0, ends], rtol=1e-4, atol=1e-5)


def test_padding_does_not_change_features(minilm: TextTower) -> None:
    with torch.no_grad():
        together = minilm(minilm.tokenise([REPORT, SHORT, []]))
        for row, report in enumerate([REPORT, SHORT, []]):
            alone = minilm(minilm.tokenise([report]))
            real = len(report)
            assert_close(together.pooled[row], alone.pooled[0], rtol=1e-5, atol=1e-6)
            assert_close(
                together.sentences[row, :real], alone.sentences[0, :real], rtol=1e-5, atol=1e-6
            )
            assert together.sentence_mask[row].tolist() == [n < real for n in range(3)]


def test_tokens_of_two_reports(tiny: TextTower) -> None:
    start, end = tiny.tokeniser.cls_token_id, tiny.tokeniser.sep_token_id
    no, mass, dense = tiny.tokeniser.convert_tokens_to_ids(["no", "mass", "dense"])
    tokens = tiny.tokenise([["no mass", "DENSE"], ["mass"]])
    assert tokens.ids.tolist() == [[start, no, mass, end, dense, end], [start, mass, end, 0, 0, 0]]
    assert tokens.mask.tolist() == [[True] * 6, [True] * 3 + [False] * 3]
    assert tokens.separators.tolist() == [[3, 5], [2, 0]]
    assert tokens.sentence_mask.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("report", "words", "sentences"),
    [
        ([], 0, 0),
        (["", " "], 0, 0),  # nothing is left of them
        (["no mass", "", "no mass"], 4, 2),
        (["no mass .", "a mass"], 5, 2),  # 1 + 4 + 3 = 8 tokens: just fits
        (["no mass .", "a mass ."], 3, 1),  # one too many: ends with the sentence before
        (["no mass .", "a mass .", "no"], 3, 1),  # and nothing follows the gap
        (["the breast is dense . no mass . a mass"], 6, 1),  # a single long sentence is cut
        (["the breast is dense . no mass", "no"], 6, 1),
    ],
)
def test_long_and_empty_reports(
    tiny: TextTower, report: list[str], words: int, sentences: int
) -> None:
    tokens = tiny.tokenise([report])
    assert tokens.mask.sum() == 1 + words + sentences <= 8
    assert tokens.sentence_mask.sum() == sentences
    if sentences:
        assert tokens.ids[0, -1] == tiny.separator_id


def test_an_empty_report_still_has_a_pooled_feature(tiny: TextTower) -> None:
    found = tiny(tiny.tokenise([[], []]))
    assert torch.isfinite(found.pooled).all()
    assert not found.sentence_mask.any()


def test_only_lora_and_the_separator_are_trained(tiny: TextTower) -> None:
    trained = {name for name, parameter in tiny.named_parameters() if parameter.requires_grad}
    prefix = "backbone.encoder.layer.0.attention.self"
    assert trained == {"separator"} | {
        f"{prefix}.{part}.lora_{matrix}.default.weight"
        for part in ("query", "value")
        for matrix in "AB"
    }


def test_gradients_reach_lora_and_separator(tiny: TextTower) -> None:
    tiny(tiny.tokenise([["no mass", "dense"]])).sentences.square().sum().backward()
    for name, parameter in tiny.named_parameters():
        # At the start LoRA's B is 0, so its A has no gradient yet.
        told = parameter.grad is not None and bool(parameter.grad.any())
        assert told == (name == "separator" or "lora_B" in name), name


def test_the_separator_acts_at_the_ends_of_sentences(tiny: TextTower) -> None:
    tokens = tiny.tokenise([["no mass", "dense"], []])
    with torch.no_grad():
        before = tiny(tokens)
        tiny.separator.normal_(generator=torch.Generator().manual_seed(0))
        after = tiny(tokens)
    assert (before.sentences[0] - after.sentences[0]).abs().amax(1).min() > 0.01
    assert torch.equal(before.pooled[1], after.pooled[1])  # no sentence, no separator


def test_layers_keeps_the_first_ones(minilm: TextTower) -> None:
    cut = tower("all-MiniLM-L6-v2", locate("all-MiniLM-L6-v2"), layers=2)
    kept, whole = cut.backbone.encoder.layer, minilm.backbone.encoder.layer
    assert (len(kept), len(whole)) == (2, 6)
    assert torch.equal(kept[1].output.dense.weight, whole[1].output.dense.weight)


def test_only_lora_drops_out(base_models: dict[str, Path]) -> None:
    lora = {"rank": 2, "dropout": 0.0}
    tokens_of = tower("tiny-bert", base_models["tiny-bert"], lora=lora).train()
    tokens = tokens_of.tokenise([["no mass"]])
    assert torch.equal(tokens_of(tokens).pooled, tokens_of(tokens).pooled)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"text\.tower x: cannot be loaded \(\w+\)\. Install it"):
        tower("x", tmp_path / "absent")


def test_lora_targets_that_match_nothing(base_models: dict[str, Path]) -> None:
    with pytest.raises(
        ModelError, match=r"text\.lora\.targets for b: no layer's name ends in c_attn, q_proj\."
    ):
        tower("b", base_models["tiny-bert"], lora={"targets": ["c_attn", "q_proj"]})


def test_more_tokens_than_the_model_has_positions(base_models: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="64"):
        tower("tiny-bert", base_models["tiny-bert"], max_tokens=65)
