"""The objective: active terms, the studies in each, and the effect of an empty report."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from mama.config import Experiment, LossConfig
from mama.data.pairs import Batch
from mama.errors import ConfigError
from mama.losses import clip_loss, local_alignment_loss, nt_xent_loss
from mama.model import MaMA
from mama.training.objective import TERMS, active_terms, encode, joined, losses

FATTY, DENSE, MASS = ["the breast is fatty .", "no mass ."], ["dense ."], ["a suspicious mass ."]


def padded(packed: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Pad packed sequences (sum of counts, C) to (N, L, C), with a mask (N, L) of the real ones."""
    whole = pad_sequence(packed.split(counts.tolist()), batch_first=True)
    return whole, torch.arange(whole.shape[1]) < counts[:, None]


def views(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(*reports: list[str], second_described: list[bool] | None = None) -> Batch:
    described = second_described or [True] * len(reports)
    return Batch(
        views(len(reports), 1), views(len(reports), 2), list(reports), torch.tensor(described)
    )


def values(model: MaMA, data: Batch, config: LossConfig, terms: Sequence[str]) -> dict[str, Tensor]:
    encoded = encode(model, data, terms)
    return losses(encoded, model.logit_scale, model.local_scale, config, terms)


@pytest.fixture
def config() -> LossConfig:
    return LossConfig()


@pytest.fixture
def calm(model: MaMA) -> MaMA:
    return model.eval()


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, ["image_text"]),
        (0.19, ["image_text"]),
        (0.2, list(TERMS[:3])),
        (0.5, list(TERMS)),
        (1, list(TERMS)),
    ],
)
def test_terms_join_at_their_start(
    make_experiment: Callable[..., Experiment], progress: float, expected: list[str]
) -> None:
    started = make_experiment(
        "loss.second_text.start=0.2", "loss.image_image.start=0.2", "loss.local.start=0.5"
    )
    assert active_terms(started.loss, progress) == expected


@pytest.mark.parametrize("term", TERMS)
def test_a_term_without_weight_is_off(
    make_experiment: Callable[..., Experiment], term: str
) -> None:
    assert term not in active_terms(make_experiment(f"loss.{term}.weight=0").loss, 1.0)


@pytest.mark.parametrize("override", ["weight=0", "start=0.5"])
def test_some_term_must_be_on_from_the_first_step(
    make_experiment: Callable[..., Experiment], override: str
) -> None:
    with pytest.raises(ConfigError, match="loss"):
        make_experiment(*[f"loss.{term}.{override}" for term in TERMS])


def test_terms_are_the_published_losses(calm: MaMA, config: LossConfig) -> None:
    data = batch(FATTY, DENSE, MASS)
    found = values(calm, data, config, TERMS)
    first, second = calm.encode_images(data.first), calm.encode_images(data.second)
    texts = calm.encode_texts(calm.text.tokenise(data.reports))
    expected = {
        "image_text": clip_loss(first.embedding, texts.embedding, calm.logit_scale),
        "second_text": clip_loss(second.embedding, texts.embedding, calm.logit_scale),
        "image_image": nt_xent_loss(first.view, second.view, 0.5),
    }
    assert found.keys() == set(TERMS)
    for name, value in expected.items():
        assert_close(found[name], value)
    assert len({round(value.item(), 4) for value in found.values()}) == 4


@pytest.mark.parametrize("term", TERMS)
def test_terms_are_computed_alone_or_together_alike(
    calm: MaMA, config: LossConfig, term: str
) -> None:
    data = batch(FATTY, DENSE, MASS, [])
    assert_close(
        values(calm, data, config, [term]), {term: values(calm, data, config, TERMS)[term]}
    )


def test_an_empty_report_leaves_the_text_terms_those_of_the_sub_batch(
    calm: MaMA, config: LossConfig
) -> None:
    whole = batch(FATTY, [], DENSE, [], MASS)
    kept = [0, 2, 4]
    part = Batch(
        whole.first[kept],
        whole.second[kept],
        [whole.reports[i] for i in kept],
        whole.second_described[kept],
    )
    found, expected = (values(calm, data, config, TERMS) for data in (whole, part))
    for term in ("image_text", "second_text", "local"):
        assert_close(found[term], expected[term])
    assert not torch.isclose(found["image_image"], expected["image_image"])


@pytest.mark.parametrize("term", TERMS)
def test_an_image_without_report_is_pulled_by_its_other_view_only(
    calm: MaMA, config: LossConfig, term: str
) -> None:
    data = batch(FATTY, [], DENSE)
    data.first.requires_grad_()
    data.second.requires_grad_()
    values(calm, data, config, [term])[term].backward()
    reached = [
        [bool(image.any()) for image in view.grad] if view.grad is not None else None
        for view in (data.first, data.second)
    ]
    text_only = [True, False, True]
    assert (
        reached
        == {
            "image_text": [text_only, None],
            "second_text": [None, text_only],
            "image_image": [[True] * 3, [True] * 3],
            "local": [text_only, None],
        }[term]
    )


def test_a_batch_without_any_report_gives_zeros_that_train_nothing(
    calm: MaMA, config: LossConfig
) -> None:
    found = values(calm, batch([], []), config, TERMS)
    assert {name for name, value in found.items() if value == 0} == set(TERMS) - {"image_image"}
    torch.stack([found[name] for name in TERMS if name != "image_image"]).sum().backward()
    gradients = [p.grad for p in calm.parameters() if p.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


def test_equal_reports_have_equal_keys(calm: MaMA) -> None:
    reports = [FATTY, DENSE, list(FATTY), FATTY[:1], FATTY[::-1]]
    keys = encode(calm, batch(*reports), ["image_text"]).report
    expected = torch.eye(5, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(keys[:, None] == keys[None, :], expected)


@pytest.mark.parametrize("term", TERMS)
def test_a_second_view_of_the_other_breast_has_no_text(
    calm: MaMA, config: LossConfig, term: str
) -> None:
    described = [True, False, True]
    data = batch(FATTY, DENSE, MASS, second_described=described)
    data.second.requires_grad_()
    sum(values(calm, data, config, [term]).values()).backward()
    reached = None if data.second.grad is None else [bool(g.any()) for g in data.second.grad]
    assert reached == {"second_text": described, "image_image": [True] * 3}.get(term)


def test_a_batch_encoded_in_parts_has_the_same_terms(calm: MaMA, config: LossConfig) -> None:
    data = batch(FATTY, [], DENSE, MASS, FATTY)
    parts = joined(encode(calm, data[first : first + 2], TERMS) for first in (0, 2, 4))
    found = losses(parts, calm.logit_scale, calm.local_scale, config, TERMS)
    assert_close(found, values(calm, data, config, TERMS))


@pytest.mark.parametrize("match", [True, False])
def test_identical_reports_match_each_other_unless_the_paper_is_followed(
    model: MaMA, match: bool
) -> None:
    """Seen only under dropout: else equal texts have equal embeddings, and targets one loss."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.text.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.train()
    data = batch(FATTY, DENSE, FATTY)
    torch.manual_seed(0)
    first = model.encode_images(data.first)
    texts = model.encode_texts(model.text.tokenise(data.reports))
    assert not torch.equal(texts.embedding[0], texts.embedding[2])
    same = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    soft, hard = (
        clip_loss(first.embedding, texts.embedding, model.logit_scale, positives=kind)
        for kind in (same, None)
    )
    assert not torch.isclose(soft, hard, rtol=1e-4)
    torch.manual_seed(0)
    found = values(model, data, LossConfig(identical_texts_match=match), ["image_text"])
    assert_close(found["image_text"], soft if match else hard)


def test_under_autocast_the_local_term_is_scored_in_its_dtype(
    calm: MaMA, config: LossConfig
) -> None:
    data = batch(FATTY, DENSE, MASS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = values(calm, data, config, ["local"])["local"]
        images = calm.encode_images(data.first)
        texts = calm.encode_texts(calm.text.tokenise(data.reports))
    patches, patch_mask = padded(images.patches, images.counts)
    sentences, sentence_mask = padded(texts.sentences, texts.counts)
    low, full = (
        local_alignment_loss(
            patches,
            sentences,
            sentence_mask,
            calm.local_scale,
            patch_mask=patch_mask,
            score_dtype=scores,
        )
        for scores in (torch.bfloat16, None)
    )
    assert found.dtype == torch.float32
    assert torch.equal(found, low)
    assert not torch.equal(found, full)


def test_sentences_of_no_known_breast_are_in_the_image_text_term_alone(calm: MaMA) -> None:
    whole = batch(["one mass .", "two cysts .", "fatty ."], ["dense ."], [])
    sided = replace(whole, sided=[[True, False, True], [False], []])
    expected, found = (encode(calm, data, TERMS) for data in (whole, sided))
    assert_close(found.text, expected.text)
    assert found.described.tolist() == [True, True, False]
    assert found.sentence_counts.tolist() == [2, 0, 0]
    assert_close(found.sentences, expected.sentences[[0, 2]])
    assert encode(calm, sided, ["image_text"]).sentences.shape[0] == 0
    assert sided[1:].sided == [[False], []]
