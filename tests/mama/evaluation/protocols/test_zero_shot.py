"""Zero-shot predictions: the most similar prompts, for each image independently."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mama.config import Experiment
from mama.data.augment import normalise, on_canvas
from mama.data.manifest import Dataset
from mama.data.studies import Image, Study
from mama.errors import ConfigError
from mama.evaluation import features
from mama.evaluation.features import image_features
from mama.evaluation.predictions import Predictions, Unit
from mama.evaluation.protocols.zero_shot import class_embeddings, metadata, zero_shot
from mama.exchange.metrics import Label
from mama.model import MaMA

CPU = torch.device("cpu")


def answers(
    model: MaMA, experiment: Experiment, dataset: Dataset, studies: list[Study]
) -> dict[Label, Predictions]:
    found = image_features(model, dataset, studies, CPU)
    return zero_shot(model, experiment, studies, found, CPU)


def by_unit(predictions: Predictions, studies: list[Study]) -> dict[tuple, np.ndarray]:
    ids = [image.id for study in studies for image in study.images]
    return {
        tuple(ids[n] for n in unit.images): row
        for unit, row in zip(predictions.units, predictions.probabilities, strict=True)
    }


@pytest.mark.parametrize("with_metadata", ["false", "true"])
def test_answers_do_not_depend_on_order_number_or_batch(
    model: MaMA,
    make_experiment: Callable[..., Experiment],
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    with_metadata: str,
) -> None:
    experiment = make_experiment(f"evaluation.metadata={with_metadata}")
    studies = list(dataset.manifest.studies)
    order = np.random.default_rng(0).permutation(len(studies))
    whole = answers(model, experiment, dataset, studies)
    monkeypatch.setattr(features, "CHUNK", 5)
    for company in ([studies[n] for n in order], studies[3:5]):
        other = answers(model.train(), experiment, dataset, company)
        for label, predictions in other.items():
            expected = by_unit(whole[label], studies)
            for images, row in by_unit(predictions, company).items():
                assert_close(row, expected[images], rtol=1e-6, atol=1e-9)


def test_probabilities_by_hand(model: MaMA, experiment: Experiment, dataset: Dataset) -> None:
    model.eval()
    study = dataset.manifest.studies[3]
    found = answers(model, experiment, dataset, [study])
    canvases = [on_canvas(dataset.pixels(i), (32, 32), "native") for i in study.images]
    with torch.no_grad():
        cosines = [
            model.similarity(normalise(canvases), [[prompt]])
            for prompt in ("no mass", "a suspicious mass")
        ]
        scores = torch.softmax(model.logit_scale.exp() * torch.cat(cosines, 1), dim=1)
    assert found["suspicious"].classes == ("no", "yes")
    assert found["suspicious"].units == [
        Unit((0, 1), "yes", "two", "s3", "p3"),
        Unit((2, 3), "no", "two", "s3", "p3"),
    ]
    expected = torch.stack([scores[:2].mean(0), scores[2:].mean(0)]).double().numpy()
    assert_close(found["suspicious"].probabilities, expected, rtol=1e-4, atol=1e-6)
    assert found["density"].classes == ("A", "D")
    assert_close(found["density"].probabilities.sum(1), np.ones(1))


def test_a_class_is_the_mean_of_its_prompts_directions(model: MaMA) -> None:
    prompts = {"x": ["a dense breast", "no mass"], "y": ["no mass"]}
    found = class_embeddings(model, prompts, CPU)
    alone = class_embeddings(model, {"d": ["a dense breast"], "n": ["no mass"]}, CPU)
    assert_close(found[1], alone[1])
    assert_close(found[0], torch.nn.functional.normalize(alone.sum(0), dim=0))
    assert_close(found.norm(dim=1), torch.ones(2))


def test_features_are_unit_vectors_in_study_order(model: MaMA, dataset: Dataset) -> None:
    studies = list(dataset.manifest.studies[:2])
    found = image_features(model, dataset, studies, CPU)
    assert (found.embeddings.shape, found.pooled.shape) == ((8, 16), (8, 64))
    assert_close(found.embeddings.norm(dim=1), torch.ones(8))
    last = image_features(model, dataset, studies[1:], CPU)
    assert_close(found.pooled[4:], last.pooled)
    assert not np.allclose(found.pooled[0], found.pooled[4])


def test_no_unit_gives_no_row(model: MaMA, experiment: Experiment, dataset: Dataset) -> None:
    study = dataset.manifest.studies[2]
    sideless = study.model_copy(
        update={"images": tuple(i.model_copy(update={"laterality": None}) for i in study.images)}
    )
    found = answers(model, experiment, dataset, [sideless])
    assert found["suspicious"].probabilities.shape == (0, 2)
    assert found["density"].probabilities.shape == (1, 2)


def image(**known: str | None) -> Image:
    values = {"laterality": None, "view": None, "vendor": None} | known
    return Image.model_validate({"id": "i", "height": 1, "width": 1} | values)


@pytest.mark.parametrize(
    ("known", "sentences"),
    [
        ({"laterality": "L", "view": "CC"}, ("Left breast, CC view.",)),
        ({"laterality": "R"}, ("Right breast.",)),
        ({"view": "MLO"}, ("MLO view.",)),
        ({"view": ""}, ()),
        ({}, ()),
    ],
)
def test_metadata_is_what_is_known_of_side_and_view(
    known: dict[str, str], sentences: tuple[str, ...]
) -> None:
    assert metadata(image(**known)) == sentences


def test_an_images_own_metadata_stands_before_the_prompt(
    model: MaMA, make_experiment: Callable[..., Experiment], dataset: Dataset
) -> None:
    model.eval()
    study = dataset.manifest.studies[3]
    experiment = make_experiment("evaluation.metadata=true")
    found = answers(model, experiment, dataset, [study])["suspicious"]
    scores = []
    for shown in study.images:
        canvas = [on_canvas(dataset.pixels(shown), (32, 32), "native")]
        side = {"L": "Left", "R": "Right"}[shown.laterality]
        own = f"{side} breast, {shown.view} view."
        texts = [[own, "no mass"], [own, "a suspicious mass"]]
        with torch.no_grad():
            similar = model.similarity(normalise(canvas), texts)[0]
        scores.append(torch.softmax(model.logit_scale.exp() * similar, dim=0))
    expected = [torch.stack(scores[rows]).mean(0) for rows in (slice(0, 2), slice(2, 4))]
    expected = torch.stack(expected).detach().double().numpy()
    assert_close(found.probabilities, expected, rtol=1e-4, atol=1e-6)
    plain = answers(model, make_experiment(), dataset, [study])["suspicious"]
    assert np.abs(found.probabilities - plain.probabilities).max() > 1e-3


def test_a_prompt_that_no_longer_fits_is_refused(model: MaMA) -> None:
    prompts = {"x": ["no mass"]}
    class_embeddings(model, prompts, CPU, ["dense"])
    with pytest.raises(ConfigError) as error:
        class_embeddings(model, prompts, CPU, ["dense " * 21])
    assert str(error.value) == (
        "evaluation.metadata: an image's metadata and a class prompt exceed text.max_tokens. "
        "Raise text.max_tokens or shorten the prompts"
    )
