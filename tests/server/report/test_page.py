"""Run report: finished, stopped and resumed runs, and no active content."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mama.config import Experiment
from mama.errors import ConfigError
from mama.system.sealed import sealed_line, write_sealed
from server.report.page import write_report
from server.run.history import replay
from tests.events import made

HOSTILE = '<script src="http://evil.example/x.js">alert(1)</script>'
NOT_ENOUGH = "no site has enough labelled test studies of each class"


def experiment(rounds: int = 4, quorum: int = 1, **sections: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "small",
            "image": {"tower": "vit_tiny_r_s16_p8_224", "size": [96, 64]},
            "text": {"tower": "all-MiniLM-L6-v2"},
            "federation": {"rounds": rounds, "local_steps": 3},
            "participation": {"quorum": quorum} | sections.pop("participation", {}),
            "strategy": sections,
            "evaluation": {
                "density": {"A": ["fatty"], "B": ["<b>scattered</b>"]},
                "suspicious": {"no": ["benign"], "yes": ["malignant"]},
            },
        }
    )


def round_event(
    number: int, losses: dict[str, float], local: float | None = None
) -> dict[str, Any]:
    terms = {site: {"loss": loss, "image_text": loss / 2} for site, loss in losses.items()}
    for of_site in terms.values():
        of_site |= {"local": local} if local is not None else {}
    return {
        "event": "round",
        "round": number,
        "seconds": 5.0,
        "train_s": 4.0,
        "missing": sorted({"a", "b", "big"} - set(losses)),
        "bytes_up": {site: 2000 * number for site in losses},
        "sites": {
            site: {"studies": 7, "steps": 3, "skipped": 0, "seconds": number, "terms": terms[site]}
            for site in losses
        },
        "terms": {name: sum(t[name] for t in terms.values()) / len(terms) for name in terms["a"]},
    }


def federated(density: float | None, suspicious: float) -> dict[str, Any]:
    def label(auc: float | None) -> dict[str, Any]:
        if auc is None:
            return {"auc": None, "balanced_accuracy": None, "reason": NOT_ENOUGH}
        return {
            "auc": auc,
            "auc_pooled": auc - 0.1,
            "balanced_accuracy": auc - 0.2,
            "sites": {"a": auc, "b": None},
        }

    labels = {"density": label(density), "suspicious": label(suspicious)}
    return {"zero_shot": labels, "linear_probe": labels}


def report(
    folder: Path,
    events: list[dict[str, Any]],
    evaluation: dict[str, Any],
    config: Experiment = experiment(),  # noqa: B008
    **metrics: Any,
) -> str:
    """The page of a run with these events, as one line of plain HTML."""
    text = yaml.safe_dump(config.model_dump(mode="json"))
    (folder / "experiment.yaml").write_text(text)
    lines = [sealed_line(made({"time": 1.0, **event}).record()) for event in events]
    (folder / "rounds.jsonl").write_bytes(b"".join(lines))
    defaults = {
        "name": "small",
        "status": "finished",
        "run": "ab",
        "experiment_hash": config.hash(),
        "rounds": max((e["round"] for e in events if e["event"] == "round"), default=0),
        "sites": ["a", "b"],
        "problems": [],
        "evaluation": evaluation,
        "exchange": {
            "bytes_up_per_site_round": 2_573_077,
            "trained_parameters": 640_994,
            "frozen_parameters": 22_565_376,
        },
        "timing": {"train_s": 16.04, "overhead_s": 4.0},
    }
    write_sealed(folder / "metrics.json", defaults | metrics)
    path = write_report(folder)
    assert path == folder / "report.html"
    return " ".join(path.read_text().split())


def finished() -> list[dict[str, Any]]:
    return [
        {"event": "start", "run": "ab", "round": 0},
        {"event": "roster", "sites": ["a", "b"]},
        round_event(1, {"a": 9.0, "b": 7.0}),
        round_event(2, {"a": 8.0}),
        {"event": "evaluation", "round": 2, "federated": federated(None, 0.6)},
        round_event(3, {"a": 7.0}, local=3.5),
        round_event(4, {"a": 6.125, "b": 5.5}, local=3.25),
        {"event": "evaluation", "round": 4, "federated": federated(None, 0.837)},
        {"event": "finished", "round": 4},
    ]


def cells(page: str, site: str) -> list[str]:
    row = next(r for r in re.findall(r"<tr>(.*?)</tr>", page) if f'<td class="name">{site}<' in r)
    return re.findall(r"<td[^>]*>(.*?)</td>", row)


def drawing(page: str, title: str) -> str:
    return re.search(rf'<svg [^>]*aria-label="{title}">.*?</svg>', page).group()


def test_finished_run_says_its_figures_and_why_one_is_missing(tmp_path: Path) -> None:
    page = report(tmp_path, finished(), {"federated": federated(None, 0.837)})
    assert "Finished: all 4 rounds with 2 sites." in page
    assert "0.837" in page
    assert "in 84 of 100 pairs" in page
    assert "0.637" in page  # balanced accuracy
    assert f"Not measured: {NOT_ENOUGH}." in page
    assert f"Linear probe not measured: {NOT_ENOUGH}." in page
    assert "2.6 MB" in page
    assert "640,994" in page
    assert "22,565,376" in page
    assert "16.0 s" in page
    assert 'id="problems"' not in page


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({}, "mean, weights uniform; server optimiser sgd, lr 1.0, momentum 0.0"),
        (
            {"server_optimiser": {"kind": "adam", "lr": 0.01}},
            "server optimiser adam, lr 0.01, betas (0.9, 0.99), eps 0.001",
        ),
        ({"server_optimiser": {"kind": "adagrad"}}, "optimiser adagrad, lr 0.1, eps 0.001"),
        (
            {"aggregator": {"kind": "trimmed_mean"}, "weights": "uniform", "quorum": 5},
            "trimmed mean, trim 0.2, weights uniform;",
        ),
    ],
)
def test_every_method_of_aggregation_is_shown(
    tmp_path: Path, strategy: dict[str, Any], said: str
) -> None:
    page = report(tmp_path, finished(), {"federated": federated(0.9, 0.8)}, experiment(**strategy))
    assert said in page


def test_table_of_sites(tmp_path: Path) -> None:
    page = report(tmp_path, finished(), {"federated": federated(0.9, 0.837)})
    assert cells(page, "a") == ["a", "7", "4 of 4", "none", "6.125", "2.5", "5.0", "0.900", "0.837"]
    assert cells(page, "b") == ["b", "7", "2 of 4", "2–3", "5.500", "2.5", "5.0", "–", "–"]


def test_times_that_the_sites_keep_to_themselves_are_not_shown_as_zero(tmp_path: Path) -> None:
    """Under patient-level privacy an answer says nothing of its training's time."""
    one = round_event(1, {"a": 9.0}) | {"train_s": 0.0}
    one["sites"]["a"]["seconds"] = 0.0
    events = [{"event": "start", "run": "ab", "round": 0}, one, {"event": "finished", "round": 1}]
    timing = {"train_s": 0.0, "overhead_s": 5.0}
    page = report(tmp_path, events, {"federated": None}, experiment(rounds=1), timing=timing)
    assert "Finished: 1 round with 2 sites." in page
    assert cells(page, "a")[5] == "–"
    assert "training at the sites" not in page
    assert ">0.0 s<" not in page


def test_run_stopped_before_its_first_round(tmp_path: Path) -> None:
    events = [
        {"event": "start", "run": "ab", "round": 0},
        {"event": "problem", "round": 0, "site": "node 7", "problem": "no answer", "code": "x"},
        {"event": "roster", "sites": []},
        {"event": "stopped", "reason": "start: 0 of at least 2 sites answered"},
    ]
    page = report(tmp_path, events, {"federated": {}}, status="stopped", sites=[])
    assert "Stopped before its first round." in page
    assert "start: 0 of at least 2 sites answered" in page
    assert "goes on with round 1." in page
    assert "There are no figures" in page
    assert "No site took part." in page
    assert "node 7" in page
    assert "<svg" not in page


def test_run_stopped_later_shows_its_last_evaluation_without_probes(tmp_path: Path) -> None:
    events = [*finished()[:5], {"event": "stopped", "reason": "round 3: 0 of at least 1"}]
    page = report(tmp_path, events, {}, status="stopped")
    assert "Stopped after 2 of 4 rounds." in page
    assert "last evaluation, after round 2" in page
    assert "in 60 of 100 pairs" in page
    assert "linear probe AUC" not in page


def test_start_without_an_end_is_shown_as_interrupted(tmp_path: Path) -> None:
    events = [*finished()[:4], {"event": "stopped", "reason": "old reason"}]
    page = report(
        tmp_path, [*events, {"event": "start", "run": "ab", "round": 2}], {}, status="stopped"
    )
    assert "Interrupted after 2 of 4 rounds." in page
    assert "old reason" not in page


def test_rounds_of_several_starts_count_once() -> None:
    start = {"event": "start", "run": "ab", "round": 0}
    first = [
        start,
        round_event(1, {"a": 9.0}),
        round_event(2, {"a": 8.0}),
        round_event(3, {"a": 1.0}),
    ]
    again = [*first, start | {"round": 1}, round_event(2, {"a": 5.0})]
    history = replay(map(made, again))
    assert sorted(history.rounds) == [1, 2]
    assert history.rounds[2].terms["loss"] == 5.0


def test_resumed_run_counts_in_the_page(tmp_path: Path) -> None:
    events = finished()
    again = [*events[:4], {"event": "start", "run": "ab", "round": 1}, *events[3:]]
    once = report(tmp_path, events, {"federated": federated(None, 0.837)})
    assert report(tmp_path, again, {"federated": federated(None, 0.837)}) == once


def test_round_without_a_record_is_shown(tmp_path: Path) -> None:
    events = [event for event in finished() if event.get("round") != 2]
    page = report(tmp_path, events, {"federated": federated(None, 0.8)})
    assert "1 of 4 rounds took place but left no record" in page
    assert cells(page, "a")[2:4] == ["3 of 3", "none"]


def test_curve_of_a_late_term_begins_late(tmp_path: Path) -> None:
    page = report(tmp_path, finished(), {"federated": federated(None, 0.8)})
    terms = drawing(page, "Terms of the loss")
    lines = re.findall(r'<path d="(M [^"z]+)" clip-path[^>]*stroke: var\(--c[14]\)', terms)
    points = [re.findall(r"[ML] ([\d.]+) ([\d.]+)", line) for line in lines]
    assert [len(p) for p in points] == [4, 2]
    assert points[1][0][0] == points[0][2][0]  # it joins at round 3
    assert "image – text" in terms
    assert "view – view" not in terms  # no such term in this run


def test_auc_is_drawn_only_when_measured_several_times(tmp_path: Path) -> None:
    page = report(tmp_path, finished(), {"federated": federated(None, 0.837)})
    assert "Suspicious lesion" not in drawing(page, "Loss")
    assert drawing(page, "Zero-shot AUC")
    events = [event for event in finished() if event.get("round") != 2]
    page = report(tmp_path, events, {"federated": federated(None, 0.837)})
    assert 'aria-label="Zero-shot AUC"' not in page


def test_equal_problems_share_a_line(tmp_path: Path) -> None:
    problems = [
        {"round": n, "site": "b", "problem": "no answer before the deadline", "code": "refused"}
        for n in (2, 3)
    ]
    events = [*finished(), *({"event": "problem", **problem} for problem in problems)]
    page = report(tmp_path, events, {"federated": federated(None, 0.8)}, problems=problems)
    assert page.count("no answer before the deadline") == 1
    assert '<td>2–3</td><td class="name">b</td>' in page


def test_hostile_strings_are_text(tmp_path: Path) -> None:
    events = json.loads(json.dumps(finished()).replace('"b"', json.dumps(HOSTILE)))
    problem = {"round": 1, "site": HOSTILE, "problem": HOSTILE, "code": "refused"}
    stopped = [*events[:-1], {"event": "stopped", "reason": HOSTILE}]
    page = report(tmp_path, stopped, {}, name=HOSTILE, sites=["a", HOSTILE], problems=[problem])
    assert HOSTILE not in page
    assert page.count(html.escape(HOSTILE, quote=False).replace('"', "&#34;")) >= 5
    assert "<b>scattered</b>" not in page
    assert "&lt;b&gt;scattered" in page


def test_page_is_still_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    page = report(tmp_path, finished(), {"federated": federated(None, 0.8)})
    assert "<script" not in page
    assert not re.search(r"https?://|@import|javascript:", page)
    assert not re.search(r"\son\w+=", page)
    assert set(re.findall(r'(?:href|src)="(.)', page)) == {"#"}
    assert "default-src 'none'" in page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_notes_are_there(tmp_path: Path) -> None:
    page = report(tmp_path, finished(), {"federated": federated(None, 0.8)})
    assert "Aggregates only" in page
    assert "no medical device" in page
    assert "unless secure aggregation or differential privacy is on" in page


def test_same_run_same_page(tmp_path: Path) -> None:
    pages = [report(tmp_path, finished(), {"federated": federated(None, 0.8)}) for _ in range(2)]
    assert pages[0] == pages[1]


def test_folder_without_outcome(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run's outcome"):
        write_report(tmp_path)


def test_who_was_missing_from_every_round_is_named_with_its_public_share(tmp_path: Path) -> None:
    config = experiment(participation={"shares": {"a": 3, "big": 6}})
    page = report(tmp_path, finished(), {"federated": federated(0.9, 0.8)}, config)
    # 3 + 1 + 6
    assert "<strong>Missing from every round:</strong> big (public share 60 %)." in page
    assert cells(page, "big")[2:4] == ["0 of 4", "1–4"]
    assert "Missing from every round" not in report(tmp_path, finished(), {"federated": {}})


def test_a_round_that_asked_others_was_not_missed(tmp_path: Path) -> None:
    events = finished()
    for event in events:
        if event["event"] == "round":
            event |= {"asked": list(event["sites"]), "missing": []}
    page = report(tmp_path, events, {"federated": federated(0.9, 0.8)})
    assert cells(page, "b")[2:4] == ["2 of 4", "none"]
