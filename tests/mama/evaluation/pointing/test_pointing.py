"""The game as a whole, with a tiny model on images whose lesions have boxes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mama.config import Experiment
from mama.data.augment import normalise, on_canvas
from mama.data.manifest import Dataset
from mama.data.studies import Box, Image, Studies, Study
from mama.errors import DataError, TrainingError
from mama.evaluation.heat_map import heat_maps
from mama.evaluation.pointing import Score, pointing, score, scores
from mama.evaluation.pointing.figures import energy_inside, hit
from mama.evaluation.pointing.texts import PHRASES
from mama.evaluation.protocols.zero_shot import class_embeddings
from mama.model import MaMA, build_model

CPU = torch.device("cpu")
# The white square of dense studies' left breasts; one patch of the tiny model's 8 x 8 pixels.
LESION = Box(x0=8, y0=8, x1=16, y1=16, label="mass")


def with_boxes(studies: Studies, box: Box = LESION, sides: str = "L") -> Studies:
    """The studies with a box in each image of the breasts."""

    def boxed(image: Image) -> Image:
        return image.model_copy(update={"boxes": (box,) if image.laterality in sides else ()})

    def change(study: Study) -> Study:
        return study.model_copy(update={"images": tuple(map(boxed, study.images))})

    return studies.mapped(change)


@pytest.fixture
def studies(dataset: Dataset) -> Studies:
    return with_boxes(dataset.manifest.studies)


def test_each_image_with_a_box_is_scored_by_its_own_texts(
    model: MaMA, experiment: Experiment, dataset: Dataset, studies: Studies
) -> None:
    found = list(scores(model, experiment, dataset, studies, CPU))
    assert [one.patient for one in found] == [f"p{n}" for n in range(14) for _ in range(2)]
    chosen = ["no_sentence", *(["finding", "most_similar"] * 7)[:13]]
    assert [one.chosen for one in found] == [how for how in chosen for _ in range(2)]
    place = 7 * 2  # a dense study with a mass on the left
    image = studies[7].images[0]
    canvas = normalise([on_canvas(dataset.pixels(image), (32, 32), "native")])
    texts = {"own": ["a suspicious mass in the left breast ."], "fresh": [PHRASES["mass"]]}
    vectors = class_embeddings(model, texts, CPU)
    maps = heat_maps(model, canvas, vectors)[0].numpy()
    assert maps.shape[1:] == (4, 4)
    inside = np.zeros((4, 4), bool)
    inside[1, 1] = True
    for name, one in zip(("own_sentence", "fresh_phrase"), maps, strict=True):
        assert found[place].hits[name] == hit(one, inside)
        assert found[place].energies[name] == pytest.approx(energy_inside(one, inside), rel=1e-4)
    assert found[place].hits["brightest"] == 1
    assert found[place].hits["random"] == pytest.approx(1 / 12)  # three of four columns are breast
    assert "own_sentence" not in found[0].hits


def test_a_breast_without_a_finding_has_its_most_similar_sentence(
    model: MaMA, experiment: Experiment, dataset: Dataset, studies: Studies
) -> None:
    (found, _) = scores(model, experiment, dataset, studies[8:9], CPU)
    image = studies[8].images[0]
    canvas = normalise([on_canvas(dataset.pixels(image), (32, 32), "native")])
    every = studies[8].texts("L")
    with torch.no_grad():
        best = every[int(model.similarity(canvas, [[text] for text in every]).argmax())]
    one = heat_maps(model, canvas, class_embeddings(model, {"": [best]}, CPU))[0, 0].numpy()
    inside = np.zeros((4, 4), bool)
    inside[1, 1] = True
    assert found.energies["own_sentence"] == pytest.approx(energy_inside(one, inside), rel=1e-4)


def test_chunks_do_not_change_the_scores_and_are_read_one_at_a_time(
    model: MaMA,
    experiment: Experiment,
    dataset: Dataset,
    studies: Studies,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = list(scores(model, experiment, dataset, studies, CPU))
    monkeypatch.setattr(score, "CHUNK", 3)
    read: list[str] = []
    pixels = dataset.pixels
    monkeypatch.setattr(dataset, "pixels", lambda one: read.append(one.id) or pixels(one))
    stream = scores(model, experiment, dataset, studies, CPU)
    parts = [next(stream)]
    assert len(read) == 3
    parts += stream
    assert len(read) == len(whole)

    def flat(one: Score) -> dict[str, float]:
        return one.hits | {f"energy {name}": value for name, value in one.energies.items()}

    for one, other in zip(whole, parts, strict=True):
        assert flat(one) == pytest.approx(flat(other), rel=1e-3, abs=1e-6)


def test_metadata_goes_before_the_fresh_phrase_only(
    make_experiment: Callable[..., Experiment], model: MaMA, dataset: Dataset, studies: Studies
) -> None:
    plain, prefixed = (
        [*scores(model, make_experiment(*more), dataset, studies[7:8], CPU)]
        for more in ((), ("evaluation.metadata=true",))
    )
    assert plain[0].energies["own_sentence"] == prefixed[0].energies["own_sentence"]
    assert plain[0].energies["fresh_phrase"] != prefixed[0].energies["fresh_phrase"]


def test_towers_that_compute_all_patches_have_rules_on_the_tissue(
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    dataset: Dataset,
    studies: Studies,
) -> None:
    experiment = make_experiment("image.tokens=all")
    whole = build_model(experiment, base_models)
    (one, _) = scores(whole, experiment, dataset, studies[7:8], CPU)
    assert one.hits["random"] == pytest.approx(1 / 12)


def test_the_result_is_plain_and_seeded(
    model: MaMA, experiment: Experiment, dataset: Dataset, studies: Studies
) -> None:
    found = pointing(model, experiment, dataset, studies, CPU)
    assert json.loads(json.dumps(found)) == found
    assert (found["images"], found["patients"]) == (28, 14)
    assert found["own_sentence_is"] == {"no_sentence": 2, "finding": 14, "most_similar": 12}
    assert found == pointing(model, experiment, dataset, studies, CPU)
    brightest = found["hit_rate"]["brightest"]
    assert 0 <= brightest["low"] < brightest["value"] < brightest["high"] <= 1


def test_no_box_and_one_patient_have_reasons(
    model: MaMA, experiment: Experiment, dataset: Dataset, studies: Studies
) -> None:
    none = pointing(model, experiment, dataset, dataset.studies("test"), CPU)
    assert (none["hit_rate"], none["reason"]) == (None, "no image has a box")
    one = pointing(model, experiment, dataset, studies[7:8], CPU)
    assert (one["images"], one["hit_rate"], one["reason"]) == (2, None, "only one patient")


def test_a_box_outside_the_picture_names_the_image(
    model: MaMA, experiment: Experiment, dataset: Dataset
) -> None:
    outside = with_boxes(dataset.studies("test"), LESION.model_copy(update={"x1": 25.0}))
    with pytest.raises(DataError, match=r"^image i8LCC: a box of a lesion lies outside"):
        pointing(model, experiment, dataset, outside, CPU)


def test_a_diverged_model_is_refused(
    model: MaMA, experiment: Experiment, dataset: Dataset, studies: Studies
) -> None:
    with torch.no_grad():
        model.image_projection.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="not finite"):
        pointing(model, experiment, dataset, studies, CPU)
