"""A private federation in one process: statement, report, ledgers, and nothing but public figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.ledger import SiteLedger
from client.private import site_ledger
from client.sitefile import load_site
from sim.run import federate

PRIVACY = (
    "privacy={mode: patient, epsilon: 6, delta: 1.0e-5, group_size: 2, sample_rate: 0.5, "
    "max_grad_norm: 0.5, slots: 8}"
)


def ledgers(files: list[Path]) -> list[SiteLedger]:
    return [site_ledger(load_site(path)) for path in files]


@pytest.fixture
def run(
    small_config: Callable[..., Any], site_files: Callable[..., list[Path]], tmp_path: Path
) -> Callable[..., tuple[dict[str, Any], list[Path]]]:
    files = site_files()

    def make(out: str = "run", *overrides: str) -> tuple[dict[str, Any], list[Path]]:
        experiment = small_config(PRIVACY, *overrides).experiment()
        return federate(experiment, files, tmp_path / out), files

    return make


def test_a_private_run(run: Callable, tmp_path: Path) -> None:
    metrics, files = run()
    found = metrics["privacy"]
    books = ledgers(files)
    assert metrics["status"] == "finished"
    assert [figures["epsilon"] for figures in found["sites"].values()] == [
        pytest.approx(book.epsilon()) for book in books
    ]
    assert 5.9 < found["maximum"] <= 6.0
    assert all(figures["steps"] == 4 for figures in found["sites"].values())
    page = (tmp_path / "run" / "report.html").read_text()
    assert "patient-level" in page
    assert f"largest: {found['maximum']:.2f}" in page
    events = [
        json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()
    ]
    rounds = [event for event in events if event["event"] == "round"]
    for event in rounds:
        assert event["terms"] == {}
        assert {(m["studies"], m["steps"], m["seconds"]) for m in event["sites"].values()} == {
            (8, 2, 0)
        }
    evaluation = metrics["evaluation"]["federated"]
    assert all(figures["auc"] is None for m in evaluation.values() for figures in m.values())


@pytest.mark.slow
def test_the_run_goes_on_without_a_site_whose_budget_is_spent(run: Callable) -> None:
    _, files = run("first")
    text = files[0].read_text()
    files[0].write_text(text + "\nbudget: {epsilon: 6.5}\n")
    for path in files[1:]:
        path.write_text(path.read_text() + "\nbudget: {epsilon: 50}\n")
    before = [sum(n for _, _, n in book.charges) for book in ledgers(files)]
    metrics, _ = run("second")
    after = [sum(n for _, _, n in book.charges) for book in ledgers(files)]
    assert metrics["status"] == "finished"
    assert {p["code"] for p in metrics["problems"]} == {"budget_exhausted"}
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 4, 4]
    assert len(metrics["privacy"]["sites"]) == 2
    # Over both runs.
    assert metrics["privacy"]["maximum"] > 8


@pytest.mark.slow
def test_two_private_runs_of_one_seed_differ(run: Callable, tmp_path: Path) -> None:
    for path in run("one")[1]:
        path.write_text(path.read_text() + "\nbudget: {epsilon: 50}\n")
    run("two")
    models = [
        next((tmp_path / name / "final").glob("*.safetensors")).read_bytes()
        for name in ("one", "two")
    ]
    assert models[0] != models[1]
