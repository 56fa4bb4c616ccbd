"""A site whose evaluation or losses are absurd: its figures do not count, and it is named."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from mama.config import Experiment
from mama.errors import ProtocolError
from mama.evaluation.pooling import summary
from mama.exchange.metrics import Cell, EvaluationCounts, LabelCounts, Recall, TrainingMetrics
from server.report.metrics import terms
from server.round import evaluation
from server.round.evaluation import check_evaluation, most_units
from tests.server.conftest import new_run, run_federation

__all__ = ["new_run", "run_federation"]  # fixtures

STUDIES = {"alder": 40, "birch": 50, "cedar": 60}


@pytest.fixture
def experiment(small_config: Any) -> Experiment:
    return small_config().experiment()


def counts(
    units: int = 20,
    *,
    method: str = "zero_shot",
    label: str = "suspicious",
    names: tuple[str, str] = ("no", "yes"),
    cells: list[Cell] | None = None,
    **changed: Any,
) -> EvaluationCounts:
    """An honest-looking evaluation, with changes."""
    halves = [
        Cell(start=0, stop=128, negatives=units, positives=0),
        Cell(start=128, stop=256, negatives=0, positives=units),
    ]
    recall = Recall(correct=units, wrong=0, mistaken=0)
    values: dict[str, Any] = {
        "histograms": {names[1]: halves if cells is None else cells},
        "recalls": {names[0]: recall, names[1]: recall},
    }
    return EvaluationCounts(counts={method: {label: LabelCounts(**values | changed)}})  # type: ignore[dict-item]


def test_honest_counts_count(experiment: Experiment) -> None:
    check_evaluation(counts(), experiment, most_units("alder", STUDIES), probes=False)


@pytest.mark.parametrize(
    ("absurd", "problem"),
    [
        (counts(names=("no", "zzz-not-a-class")), "lacks"),
        (counts(label="density"), "lacks"),
        (counts(10**9), "at most 400"),
        (counts(201), "at most 400"),
        (counts(method="linear_probe"), "nobody asked"),
        (counts(cells=[Cell(start=0, stop=9, negatives=20, positives=10**6)]), "contradict"),
        (counts(cells=[]), "contradict"),
        (
            counts(
                cells=[
                    Cell(start=0, stop=200, negatives=20, positives=0),
                    Cell(start=100, stop=256, negatives=0, positives=20),
                ]
            ),
            "contradict",
        ),
        (counts(recalls={}), "lacks"),
        (counts(recalls={"no": None, "yes": None}), "contradict"),
        (
            counts(
                recalls={
                    "no": Recall(correct=20, wrong=0, mistaken=21),
                    "yes": Recall(correct=20, wrong=0),
                }
            ),
            "mistakes",
        ),
    ],
)
def test_absurd_counts_do_not(
    experiment: Experiment, absurd: EvaluationCounts, problem: str
) -> None:
    with pytest.raises(ProtocolError, match=problem) as raised:
        check_evaluation(absurd, experiment, most_units("alder", STUDIES), probes=False)
    assert "zzz" not in str(raised.value)


def test_a_claim_of_many_studies_credits_no_more_than_others_make_plausible() -> None:
    assert most_units("birch", STUDIES) == 500
    assert most_units("birch", STUDIES | {"birch": 10**9}) == 10 * 4 * 60
    assert most_units("alone", {"alone": 7}) == 70


def test_masking_rates_that_would_blow_a_figure_up_are_no_counts() -> None:
    for rates in (
        {"kept": 0.5, "moved": 0.5},
        {"kept": 0.1, "moved": 0.4},
        {"kept": 0.55, "moved": 0.5},
    ):
        with pytest.raises(ValidationError, match="carry no information"):
            LabelCounts(histograms={}, recalls={}, **rates)  # type: ignore[arg-type]


@pytest.mark.parametrize("checked", [True, False])
def test_a_run_goes_on_without_the_figures_of_the_site_that_lies(
    run_federation: Any, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """Real rounds; with the check off the lie makes the figure."""
    if not checked:
        monkeypatch.setattr(evaluation, "check_evaluation", lambda *args, **options: None)

    def change(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
        if (site, kind) != ("birch", "evaluate"):
            return header, data
        lie = counts(10**9 // 4).model_dump(mode="json")
        return json.dumps(json.loads(header) | {"evaluation": lie}), data

    outcome = run_federation(change, "federation.rounds=1")
    found = outcome.metrics["evaluation"]["federated"]["zero_shot"]["suspicious"]
    named = [p for p in outcome.problems if "evaluation refused" in p["problem"]]
    assert ("birch" in found.get("sites", {})) is not checked
    assert [p["site"] for p in named] == (["birch"] if checked else [])
    assert outcome.metrics["status"] == "finished"


def metrics(loss: float, studies: int = 10) -> TrainingMetrics:
    return TrainingMetrics(
        studies=studies,
        patients=1,
        steps=1,
        skipped=0,
        seconds=1,
        terms={"loss": loss},
    )


def test_a_loss_cannot_ruin_the_curve() -> None:
    for absurd in (1e30, -1e30, 1.1e4):
        with pytest.raises(ValidationError):
            metrics(absurd)
    # The largest that passes, with the heaviest claim, among honest ones.
    reported = [metrics(2.0), metrics(2.2), metrics(1e4, studies=10**9)]
    assert terms(reported) == {"loss": 2.2}
    mean = sum(m.terms["loss"] * m.studies for m in reported) / sum(m.studies for m in reported)
    assert mean > 9e3


def test_masked_counts_give_a_figure_between_0_and_1() -> None:
    """Counts that contradict the masking are cut, not blown up."""
    for right in (0, 5, 20):
        cells = [
            Cell(start=0, stop=128, negatives=20 - right, positives=right),
            Cell(start=128, stop=256, negatives=right, positives=20 - right),
        ]
        found = summary({"a": counts(cells=cells, kept=0.75, moved=0.25)})["zero_shot"][
            "suspicious"
        ]
        assert 0 <= found["auc"] <= 1  # type: ignore[operator]
        assert 0 <= found["balanced_accuracy"] <= 1  # type: ignore[operator]
