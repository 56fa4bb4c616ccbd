"""Gradient caching: the whole batch's gradient for any chunk; towers see one at a time."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mama.config import Experiment, LossConfig
from mama.data.pairs import Batch
from mama.model import MaMA, build_model
from mama.training.device import autocast
from mama.training.gradient import add_gradient
from mama.training.guidance import GlobalAnchor
from mama.training.objective import TERMS, Encoded, encode, joined, losses

FATTY, DENSE, MASS = ["the breast is fatty .", "no mass ."], ["dense ."], ["a suspicious mass ."]
LONG = ["the breast is dense .", "no mass .", "a suspicious mass in the left breast .", "fatty ."]
REPORTS = [FATTY, DENSE, [], LONG, FATTY]
CONFIG = LossConfig(
    image_text={"weight": 1.5}, second_text={"weight": 0.5}, local={"weight": 2, "start": 0}
)

Gradients = dict[str, Tensor | None]


def make_batch(reports: Sequence[list[str]], seed: int = 0) -> Batch:
    """Views half of which is background, with reports that speak of every other second view."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand(2, len(reports), 1, 32, 32, generator=generator).double() * 2 - 1
    for place, views in enumerate(zip(first, second, strict=True)):
        for view in views:
            view[..., 8 + 4 * (place % 5) :] = -1
    described = torch.arange(len(reports)) % 2 == 0
    return Batch(first, second, list(reports), described)


@pytest.fixture
def model(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path]
) -> Callable[..., MaMA]:
    """A float64 model with the given dropout, none of whose trained weights is zero."""

    def make(dropout: float = 0.0) -> MaMA:
        made = build_model(make_experiment(f"text.lora.dropout={dropout}"), base_models).double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.requires_grad and parameter.ndim:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator).double()
        return made.train()

    return make


def cached(
    model: MaMA,
    batch: Batch,
    chunk: int | None,
    terms: Sequence[str] = TERMS,
    config: LossConfig = CONFIG,
) -> tuple[dict[str, float], Encoded, Gradients]:
    model.zero_grad()
    torch.manual_seed(7)
    values, encoded = add_gradient(model, batch, config, terms, chunk=chunk, autocast=nullcontext)
    return numbers_of(values), encoded, gradients(model)


def numbers_of(values: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in values.items()}


def plain(
    model: MaMA,
    batch: Batch,
    chunk: int | None = None,
    terms: Sequence[str] = TERMS,
    config: LossConfig = CONFIG,
) -> tuple[dict[str, float], Gradients]:
    """One backward pass through everything; encoded in chunks, so that dropout draws alike."""
    model.zero_grad()
    torch.manual_seed(7)
    size = chunk or len(batch)
    parts = [
        encode(model, batch[first : first + size], terms) for first in range(0, len(batch), size)
    ]
    values = losses(joined(parts), model.logit_scale, model.local_scale, config, terms)
    total = sum(getattr(config, name).weight * value for name, value in values.items())
    total.backward()
    return numbers_of(values | {"loss": total}), gradients(model)


def gradients(model: MaMA) -> Gradients:
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


def assert_equal(found: Gradients, expected: Gradients, tolerance: float = 1e-10) -> None:
    """Equal to `tolerance` of each parameter's largest entry; rounding alone where that is zero."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        other = found[name]
        assert (other is None) == (gradient is None), name
        if gradient is not None:
            difference = (other - gradient).abs().max()
            assert difference <= tolerance * gradient.abs().max() + 1e-16, name


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [1, 2, 3, 4])
def test_caching_gives_the_gradient_of_the_whole_batch(
    model: Callable[..., MaMA], chunk: int, dropout: float
) -> None:
    made, batch = model(dropout), make_batch(REPORTS)
    numbers, expected = plain(made, batch, chunk)
    found, _, gradient = cached(made, batch, chunk)
    assert found == pytest.approx(numbers, rel=1e-12)
    assert_equal(gradient, expected)
    assert all(g is not None and g.any() for g in gradient.values())
    if not dropout:
        assert_equal(gradient, plain(made, batch)[1])


def test_dropout_differs_between_seeds(model: Callable[..., MaMA]) -> None:
    """Else the replay of its draws would be tested by nothing."""
    made, batch = model(0.1), make_batch(REPORTS)
    numbers, gradient = plain(made, batch, 2)
    made.zero_grad()
    torch.manual_seed(8)
    other, _ = add_gradient(made, batch, CONFIG, TERMS, chunk=2, autocast=nullcontext)
    assert abs(other["loss"] - numbers["loss"]) > 1e-6
    with pytest.raises(AssertionError):
        assert_equal(gradients(made), gradient, 1e-6)


@pytest.mark.parametrize("chunk", [None, 5, 6])
def test_a_chunk_that_holds_the_batch_caches_nothing(
    model: Callable[..., MaMA], chunk: int | None
) -> None:
    made, batch = model(), make_batch(REPORTS)
    seen = sizes_of(made)
    numbers, _, gradient = cached(made, batch, chunk)
    assert seen == [5, 5]  # two views, once
    expected = plain(made, batch)
    assert numbers == pytest.approx(expected[0], rel=1e-14)
    assert_equal(gradient, expected[1], 1e-13)


def sizes_of(model: MaMA) -> list[int]:
    """Grows by the number of images that the image tower sees at a time."""
    seen: list[int] = []
    model.image.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    return seen


def test_towers_see_a_chunk_at_a_time(model: Callable[..., MaMA]) -> None:
    made = model()
    seen = sizes_of(made)
    cached(made, make_batch(REPORTS), 2)
    assert seen == [2, 2, 2, 2, 1, 1] * 2


@pytest.mark.parametrize("terms", [[name] for name in TERMS] + [list(TERMS[:2]), list(TERMS[2:])])
def test_terms_alone(model: Callable[..., MaMA], terms: list[str]) -> None:
    made, batch = model(), make_batch(REPORTS)
    numbers, expected = plain(made, batch, None, terms)
    found, _, gradient = cached(made, batch, 2, terms)
    assert found == pytest.approx(numbers, rel=1e-12)
    assert found.keys() == {*terms, "loss"}
    assert_equal(gradient, expected)


@pytest.mark.parametrize(
    "reports",
    [
        [[], []],
        [[], [], []],
        [FATTY, [], []],
        [[], [], FATTY, DENSE],
        [FATTY, FATTY, FATTY],
        [["dense"], ["mass"], FATTY],  # of one token
        [["dense"], ["dense"]],
    ],
)
def test_few_reports(model: Callable[..., MaMA], reports: list[list[str]]) -> None:
    made, batch = model(), make_batch(reports)
    numbers, expected = plain(made, batch)
    for chunk in (1, 2):
        found, _, gradient = cached(made, batch, chunk)
        assert found == pytest.approx(numbers, rel=1e-12, abs=1e-14)
        assert_equal(gradient, expected)


@pytest.mark.parametrize("report", [FATTY, []])
def test_a_batch_of_one_has_nothing_to_confuse(
    model: Callable[..., MaMA], report: list[str]
) -> None:
    made, batch = model(), make_batch([report])
    for chunk in (None, 1):
        numbers, _, gradient = cached(made, batch, chunk)
        assert numbers == pytest.approx(dict.fromkeys([*TERMS, "loss"], 0.0), abs=1e-12)
        assert all(g is None or g.abs().max() < 1e-12 for g in gradient.values())


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    reports=st.lists(st.sampled_from([FATTY, DENSE, MASS, LONG, []]), min_size=1, max_size=6),
    chunk=st.integers(1, 7),
    match=st.booleans(),
    terms=st.sets(st.sampled_from(TERMS), min_size=1),
    seed=st.integers(0, 99),
)
def test_caching_on_any_batch(
    model: Callable[..., MaMA],
    reports: list[list[str]],
    chunk: int,
    match: bool,
    terms: set[str],
    seed: int,
) -> None:
    made, batch = model(0.1), make_batch(reports, seed)
    config = CONFIG.model_copy(update={"identical_texts_match": match})
    ordered = [name for name in TERMS if name in terms]
    numbers, expected = plain(made, batch, chunk, ordered, config)
    found, _, gradient = cached(made, batch, chunk, ordered, config)
    assert found == pytest.approx(numbers, rel=1e-12, abs=1e-14)
    assert_equal(gradient, expected)


def test_gradients_add_up_and_are_scaled(model: Callable[..., MaMA]) -> None:
    made, batch = model(), make_batch(REPORTS)
    once = {name: g.clone() for name, g in cached(made, batch, 2)[2].items() if g is not None}
    numbers, _ = add_gradient(
        made, batch, CONFIG, TERMS, chunk=2, autocast=nullcontext, scale=lambda loss: loss / 4
    )
    assert numbers["loss"].item() == pytest.approx(plain(made, batch)[0]["loss"])
    made.zero_grad()
    for factor in (0.25, 1.0):
        add_gradient(
            made,
            batch,
            CONFIG,
            TERMS,
            chunk=2,
            autocast=nullcontext,
            scale=lambda loss, factor=factor: factor * loss,
        )
    assert_equal(gradients(made), {name: 1.25 * gradient for name, gradient in once.items()})


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_batchs_embeddings_come_back_without_a_graph(
    model: Callable[..., MaMA], chunk: int | None
) -> None:
    made, batch = model(), make_batch(REPORTS)
    _, encoded, _ = cached(made, batch, chunk)
    expected = encode(made, batch, TERMS)
    for name, part, other in zip(Encoded._fields, encoded, expected, strict=True):
        assert not part.requires_grad, name
        if name == "truncated":  # one count a piece
            part, other = part.sum(), other.sum()
        torch.testing.assert_close(part, other.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_loss_that_is_not_finite_is_returned_as_it_is(
    model: Callable[..., MaMA], chunk: int | None
) -> None:
    """Whoever takes the step reads it after the backward pass, without a wait in between."""
    made, batch = model(), make_batch(REPORTS)
    batch.first[3, 0, 0, 0] = torch.nan
    numbers, _, _ = cached(made, batch, chunk)
    assert math.isnan(numbers["loss"])


def test_under_autocast_caching_changes_rounding_alone(model: Callable[..., MaMA]) -> None:
    made, batch = model().float(), make_batch(REPORTS)
    batch = Batch(batch.first.float(), batch.second.float(), batch.reports, batch.second_described)
    found = []
    for chunk in (None, 2):
        made.zero_grad()
        add_gradient(
            made,
            batch,
            CONFIG,
            TERMS,
            chunk=chunk,
            autocast=partial(autocast, torch.device("cpu"), torch.bfloat16),
        )
        gradient = gradients(made)
        assert {g.dtype for g in gradient.values() if g is not None} == {torch.float32}
        found.append(torch.cat([g.flatten() for g in gradient.values() if g is not None]))
    assert torch.cosine_similarity(*found, dim=0) > 0.999
    torch.testing.assert_close(found[0].norm(), found[1].norm(), rtol=0.02, atol=0)


@pytest.mark.parametrize("chunk", [None, 2])
def test_guidance_adds_the_gradient_of_its_term(
    model: Callable[..., MaMA], chunk: int | None
) -> None:
    made, batch = model(), make_batch(REPORTS)
    anchor = GlobalAnchor(made, weight=3.0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad and parameter.ndim:
                parameter += 0.05 * torch.randn_like(parameter)
    numbers, expected = plain(made, batch)
    expected = {n: g.clone() for n, g in expected.items() if g is not None}
    made.zero_grad()
    with torch.no_grad():
        targets = encode(anchor.model, batch, ())
    ours = encode(made, batch, ())
    described = torch.tensor([bool(report) for report in REPORTS])
    pull = 2 - 2 * torch.cosine_similarity(ours.first, targets.first).mean()
    texts = (ours.text[described], targets.text[described])
    pull = pull + 2 - 2 * torch.cosine_similarity(*texts).mean()
    (3 * pull).backward()
    for name, gradient in gradients(made).items():
        if gradient is not None:
            expected[name] = expected[name] + gradient

    made.zero_grad()
    found, _ = add_gradient(
        made, batch, CONFIG, TERMS, chunk=chunk, autocast=nullcontext, anchor=anchor
    )
    found = numbers_of(found)
    assert found["guidance"] == pytest.approx(pull.item())
    assert found["guidance"] > 1e-3
    assert found["loss"] == pytest.approx(numbers["loss"] + 3 * pull.item())
    assert_equal(gradients(made), expected, 1e-9)


def test_a_guide_stays_where_it_was_and_shares_what_is_frozen(model: Callable[..., MaMA]) -> None:
    made = model(0.1)
    anchor = GlobalAnchor(made, weight=1.0)
    assert not anchor.model.training
    assert made.training
    for (name, own), other in zip(made.named_parameters(), anchor.model.parameters(), strict=True):
        assert (own is other) == (not own.requires_grad), name
    batch = make_batch(REPORTS)
    with torch.no_grad():
        before = anchor.encode(batch, nullcontext)
        made.image_projection.weight.add_(1)
        after = anchor.encode(batch, nullcontext)
    assert torch.equal(before.first, after.first)
    assert torch.equal(before.text, after.text)
