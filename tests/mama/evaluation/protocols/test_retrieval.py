"""Ranks by a plain loop, identical reports that are all right, and chance by drawing."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mama.data.manifest import Dataset
from mama.errors import TrainingError
from mama.evaluation.features import image_features
from mama.evaluation.protocols import retrieval as module
from mama.evaluation.protocols.retrieval import chance, ranks, retrieval
from mama.model import MaMA

CPU = torch.device("cpu")


@given(seed=st.integers(0, 2**32), count=st.integers(2, 12), chunk=st.integers(1, 5))
def test_ranks_are_those_of_a_loop(seed: int, count: int, chunk: int) -> None:
    random = np.random.default_rng(seed)
    queries, gallery = random.integers(-2, 3, (2, count, 2)).astype(float)  # with ties
    same = random.integers(0, 4, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        found = ranks(queries, gallery, same)
    for row, query in enumerate(queries):
        cosines = gallery @ query
        best = cosines[same == same[row]].max()
        assert found[row] == 1 + sum(cosines[same != same[row]] >= best)


@given(count=st.integers(1, 7), k=st.integers(1, 9), data=st.data())
def test_chance_is_that_of_drawing(count: int, k: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(1, count))
    draws = list(combinations(range(count), min(k, count)))
    hits = sum(any(number < right for number in draw) for draw in draws)
    assert chance(count, right, k) == pytest.approx(hits / len(draws))


def test_a_model_and_its_dataset(model: MaMA, dataset: Dataset) -> None:
    studies = dataset.manifest.studies  # 13 of 14 have one of two reports
    found = retrieval(model, studies, image_features(model, dataset, studies, CPU), CPU)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["studies"], found["reports"]) == (13, 2)
    for direction in ("image_to_report", "report_to_image"):
        recalls = found[direction]
        assert list(recalls) == ["1", "5", "10"]
        assert recalls["10"]["value"] == recalls["10"]["chance"] == 1.0  # 6 of 13 are right
        assert 0.4 < recalls["1"]["chance"] < 0.6
        assert recalls["1"]["value"] <= recalls["5"]["value"]


def test_a_model_that_knows_the_reports(model: MaMA, dataset: Dataset) -> None:
    studies = dataset.studies("test")
    features = image_features(model, dataset, studies, CPU)
    texts = module._encoded(model, [study.texts() for study in studies], CPU)
    own = texts.repeat_interleave(4, dim=0)
    found = retrieval(model, studies, type(features)(own, features.pooled), CPU)
    assert found["image_to_report"]["1"]["value"] == 1.0
    opposite = retrieval(model, studies, type(features)(-own, features.pooled), CPU)
    assert opposite["image_to_report"]["1"]["value"] == 0.0


@pytest.mark.parametrize("which", ["texts", "images"])
def test_a_model_that_has_diverged_has_no_recall(model: MaMA, dataset: Dataset, which: str) -> None:
    studies = dataset.studies("test")
    features = image_features(model, dataset, studies, CPU)
    if which == "texts":
        with torch.no_grad():
            model.text_projection.weight.fill_(torch.nan)
    else:
        features.embeddings[5] = torch.nan
    with pytest.raises(TrainingError, match="not finite"):
        retrieval(model, studies, features, CPU)


def test_one_report_cannot_be_retrieved(model: MaMA, dataset: Dataset) -> None:
    studies = [study for study in dataset.studies("test") if study.labels.density == "A"]
    found = retrieval(model, studies, image_features(model, dataset, studies, CPU), CPU)
    assert found["image_to_report"] is None
    assert found["reason"] == "fewer than two different reports"
