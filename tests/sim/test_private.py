"""Private federation in one process: statement, report, ledgers, public figures only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.policy.in_force import accept
from client.privacy.ledger import SiteLedger
from client.privacy.round import site_ledger
from client.site.config import load_site
from mama.errors import BudgetError
from sim.cli import main
from sim.run import federate

PRIVATE = Path(__file__).parents[2] / "configs" / "private.yaml"
PRIVACY = (
    "privacy={mode: patient, epsilon: 6, delta: 1.0e-5, group_size: 2, sample_rate: 0.5, "
    "max_grad_norm: 0.5, slots: 8}"
)


def ledgers(files: list[Path]) -> list[SiteLedger]:
    return [site_ledger(load_site(path)) for path in files]


def set_budget(path: Path, epsilon: float) -> None:
    """Set a site's budget, and accept it: a larger one is a weaker policy."""
    path.write_text(f"{path.read_text()}\nbudget: {{epsilon: {epsilon}}}\n")
    accept(load_site(path))


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
    assert "Terms of the loss" not in page
    assert f"largest of all runs: {found['maximum']:.2f}" in page
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
    figures = [of_label for of_method in evaluation.values() for of_label in of_method.values()]
    assert {of_label["auc"] for of_label in figures} == {None}
    assert {of_label["reason"] for of_label in figures} == {
        "under privacy.mode patient evaluations stay at the sites"
    }


@pytest.mark.slow
def test_the_run_goes_on_without_a_site_whose_budget_is_spent(run: Callable) -> None:
    _, files = run("first")
    set_budget(files[0], 6.5)
    for path in files[1:]:
        set_budget(path, 50)
    before = [sum(n for _, _, n in book.charges) for book in ledgers(files)]
    metrics, _ = run("second")
    after = [sum(n for _, _, n in book.charges) for book in ledgers(files)]
    assert metrics["status"] == "finished"
    assert {p["code"] for p in metrics["problems"]} == {"budget_exhausted"}
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 4, 4]
    assert len(metrics["privacy"]["sites"]) == 2
    # Over both runs.
    assert metrics["privacy"]["maximum"] > 8
    assert all(
        5.9 < of_site["run_epsilon"] <= 6 for of_site in metrics["privacy"]["sites"].values()
    )


@pytest.mark.slow
def test_a_run_that_nobody_can_pay_for_any_more_ends_with_its_model(
    run: Callable, tmp_path: Path
) -> None:
    _, files = run("first", "federation.rounds=1")
    for path in files:
        set_budget(path, 8)
    metrics, _ = run("second")
    assert (metrics["status"], metrics["rounds"]) == ("finished", 1)
    assert (tmp_path / "second" / "final" / "model.safetensors").exists()
    assert {p["code"] for p in metrics["problems"]} == {"budget_exhausted"}
    assert "Finished after 1 of 2 rounds" in (tmp_path / "second" / "report.html").read_text()
    with pytest.raises(BudgetError, match="the first round"):
        run("third")
    assert json.loads((tmp_path / "third" / "metrics.json").read_text())["status"] == "stopped"


@pytest.mark.slow
def test_two_private_runs_of_one_seed_differ(run: Callable, tmp_path: Path) -> None:
    for path in run("one")[1]:
        set_budget(path, 50)
    run("two")
    models = [
        next((tmp_path / name / "final").glob("*.safetensors")).read_bytes()
        for name in ("one", "two")
    ]
    assert models[0] != models[1]


@pytest.mark.slow
def test_site_level_privacy(
    small_config: Callable[..., Any], site_files: Callable[..., list[Path]], tmp_path: Path
) -> None:
    experiment = small_config(
        "privacy={mode: site, epsilon: 5, delta: 0.01, max_grad_norm: 0.1}",
        "strategy.weights=uniform",
    ).experiment()
    metrics = federate(experiment, site_files(), tmp_path / "run")
    assert metrics["status"] == "finished"
    assert 4.98 <= metrics["privacy"]["maximum"] <= 5
    # The sites spend nothing: it is the coordinator's noise.
    assert metrics["privacy"]["sites"] == {}
    assert "site-level" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_the_shipped_configuration_runs_and_prints_its_statement(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    """One round of it at two sites: the steps cost what its ten rounds would let them."""
    out = tmp_path / "run"
    settings = (
        *("--set", "federation.rounds=1", "--set", "federation.local_steps=3"),
        *("--set", "simulation.sites=2", "--set", "simulation.test_studies=8"),
    )
    ended = command(main, "run", PRIVATE, "--out", out, *settings)
    assert ended.code == 0
    assert (
        "privacy: patient-level, epsilon at most 8 planned at delta 1e-05 (zero-out, RDP)"
        in ended.out
    )
    found = json.loads((out / "metrics.json").read_text())["privacy"]
    assert 7.9 < found["maximum"] <= 8
    assert f"largest of all runs: {found['maximum']:.2f}" in ended.out
    assert all(site["steps"] == 3 for site in found["sites"].values())
