"""The allow-list: exactly these metrics leave a site, bounded and without free text."""

from typing import Any

import pytest
from pydantic import ValidationError

from mama.exchange.metrics import BINS, EvaluationCounts, TrainingMetrics

TRAINING: dict[str, Any] = {
    "studies": 1,
    "patients": 1,
    "steps": 2,
    "skipped": 0,
    "seconds": 0.1,
    "terms": {"loss": 1.0},
}
CELL = {"start": 0, "stop": BINS, "negatives": 5, "positives": 6}
RECALL = {"correct": 5, "wrong": 0}


def evaluation(
    cell: dict | None = None, recall: dict | None = None, **label: Any
) -> dict[str, Any]:
    counts = {
        "histograms": {"yes": [cell or CELL]},
        "recalls": {"yes": recall or RECALL, "no": None},
    }
    return {"counts": {"zero_shot": {"suspicious": counts | label}}}


def test_whole_figures_pass() -> None:
    TrainingMetrics.model_validate(TRAINING)
    read = EvaluationCounts.model_validate(evaluation())
    assert read.counts["zero_shot"]["suspicious"].recalls["no"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"ids": ["p1"]},
        {"studies": 0},
        {"patients": 0},
        {"patients": 2.5},
        {"studies": 10**9 + 1},
        {"steps": -1},
        {"seconds": float("inf")},
        {"terms": {"gradient": 1.0}},
        {"terms": {"loss\n": 1.0}},
        {"terms": {"loss": float("nan")}},
    ],
)
def test_other_training_figures_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingMetrics.model_validate(TRAINING | change)


@pytest.mark.parametrize(
    "values",
    [
        {**evaluation(), "predictions": []},
        evaluation(scores=[0.1]),
        evaluation(CELL | {"studies": ["s1"]}),
        evaluation(recall=RECALL | {"ids": ["s1"]}),
        evaluation(CELL | {"negatives": -1}),
        evaluation(CELL | {"negatives": 0.5}),
        evaluation(CELL | {"start": 4, "stop": 4}),
        evaluation(CELL | {"stop": BINS + 1}),
        evaluation(histograms={"free text!": [CELL]}),
        evaluation(histograms={"yes": [CELL] * (BINS + 1)}),
        evaluation(recalls={f"c{n}": None for n in range(17)}),
        {"counts": {"nearest": evaluation()["counts"]["zero_shot"]}},
        {"counts": {"zero_shot": {"age": evaluation()["counts"]["zero_shot"]["suspicious"]}}},
    ],
)
def test_other_evaluation_figures_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EvaluationCounts.model_validate(values)
