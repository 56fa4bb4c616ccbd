"""Model: equal seeds give equal weights, other random streams are untouched, embedding shapes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mama.config import Experiment
from mama.model import MaMA, build_model


def test_weights_depend_on_the_experiments_seed_alone(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path]
) -> None:
    torch.manual_seed(1)
    first = build_model(make_experiment(), base_models).state_dict()
    torch.manual_seed(2)
    again = build_model(make_experiment(), base_models).state_dict()
    other = build_model(make_experiment("seed=4"), base_models).state_dict()
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    for part in ("image.", "image_projection.", "view_head.", "patch_head.", "sentence_head."):
        assert any(name.startswith(part) for name in differing)
    assert not any("text.backbone" in name and "lora_" not in name for name in differing)


def test_building_draws_nothing_from_the_global_generator(
    experiment: Experiment, base_models: dict[str, Path]
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_model(experiment, base_models)
    assert torch.equal(torch.rand(3), expected)


def test_shapes_and_parts_left_out(model: MaMA) -> None:
    images = torch.randn(2, 1, 32, 32)
    tokens = model.text.tokenise([["a mass .", "dense ."], ["fatty ."]])
    assert [tuple(part.shape) for part in model.encode_images(images)] == [
        (2, 16),
        (2, 16),
        (2 * 16, 16),  # 4 x 4 patches of 8 pixels
        (2,),
    ]
    without = model.encode_images(images, local=False)
    assert without.patches.shape == (0, 16)
    assert without.counts.tolist() == [16, 16]
    texts = model.encode_texts(tokens)
    assert (texts.embedding.shape, texts.sentences.shape) == ((2, 16), (3, 16))
    assert texts.counts.tolist() == [2, 1]
    without = model.encode_texts(tokens, local=False)
    assert without.sentences.shape == (0, 16)
    assert without.counts.tolist() == [2, 1]


def test_similarity_is_the_cosine_of_the_embeddings(model: MaMA) -> None:
    model.eval()
    images, reports = 3 * torch.randn(3, 1, 32, 32), [["dense ."], ["no mass .", "fatty ."]]
    image = model.encode_images(images).embedding
    text = model.encode_texts(model.text.tokenise(reports)).embedding
    expected = torch.stack(
        [torch.cosine_similarity(image, row.expand_as(image), dim=-1) for row in text], dim=1
    )
    found = model.similarity(images, reports)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() <= 1 + 1e-6


REPORTS = [["a mass .", "dense .", "no mass ."], [], ["fatty ."]]


@pytest.fixture
def paper_heads(make_experiment: Callable[..., Experiment], base_models: dict[str, Path]) -> MaMA:
    return build_model(make_experiment("heads.norm=batch", "text.lora.dropout=0"), base_models)


def norms(model: MaMA) -> list[nn.BatchNorm1d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]


def _standardised(rows: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """As the published output norm does it, which has no weights of its own."""
    assert norm.weight is None
    assert norm.bias is None
    return (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + norm.eps).sqrt()


def test_batch_norm_has_the_statistics_of_all_real_sentences(paper_heads: MaMA) -> None:
    tokens = paper_heads.text.tokenise(REPORTS)
    rows = paper_heads.text(tokens).sentences
    linear, norm, relu, last, output = paper_heads.sentence_head
    hidden = linear(rows)
    assert len(hidden) == 4
    expected = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + norm.eps).sqrt()
    found = paper_heads.encode_texts(tokens).sentences
    torch.testing.assert_close(found, _standardised(last(relu(expected)), output))
    torch.testing.assert_close(norm.running_mean, 0.1 * hidden.mean(0))


def test_batch_norm_has_the_statistics_of_all_real_patches(paper_heads: MaMA) -> None:
    images = torch.rand(3, 1, 32, 32) * 2 - 1
    images[0, :, 8:] = images[1, :, :, 16:] = -1
    rows = paper_heads.image(images).patches
    linear, norm, relu, last, output = paper_heads.patch_head
    hidden = linear(rows)
    expected = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + norm.eps).sqrt()
    found = paper_heads.encode_images(images).patches
    expected = _standardised(last(relu(expected)), output)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("reports", [[["dense ."]], [[]]])
def test_batch_norm_of_one_row_or_none_uses_the_running_statistics(
    paper_heads: MaMA, reports: list[list[str]]
) -> None:
    image = torch.rand(1, 1, 32, 32)
    for _ in range(2):  # give them some
        paper_heads.encode_images(torch.rand(4, 1, 32, 32))
        paper_heads.encode_texts(paper_heads.text.tokenise(REPORTS))
    before = [norm.running_mean.clone() for norm in norms(paper_heads)]
    tokens = paper_heads.text.tokenise(reports)

    def outputs() -> tuple[Tensor, ...]:
        view = paper_heads.encode_images(image, local=False).view
        return view, paper_heads.encode_texts(tokens).sentences

    found = outputs()
    paper_heads.eval()
    torch.testing.assert_close(found, outputs())
    after = [norm.running_mean for norm in norms(paper_heads)]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_layer_norm_keeps_no_statistics(model: MaMA) -> None:
    assert not norms(model)
    assert not any("running" in name for name, _ in model.named_buffers())
