"""The model: equal seeds give equal weights, nobody else's random numbers are drawn, embeddings have their shapes."""

from collections.abc import Callable
from pathlib import Path

import torch

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
        (2, 16, 16),  # 4 x 4 patches of 8 pixels
        (2, 16),
    ]
    assert model.encode_images(images, local=False).patches.numel() == 0
    texts = model.encode_texts(tokens)
    assert (texts.embedding.shape, texts.sentences.shape) == ((2, 16), (2, 2, 16))
    assert texts.sentence_mask.tolist() == [[True, True], [True, False]]
    assert model.encode_texts(tokens, local=False).sentences.numel() == 0


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
