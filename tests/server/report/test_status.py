"""`mama-server status`: states and figures from events alone, in 80 columns and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console

from mama.errors import ConfigError
from mama.exchange.protocol import Kind
from server.cli import main
from server.report.status import status, table
from server.run.folder import RunFolder
from server.service.follow import line_of
from tests.events import made

START = {"event": "start", "run": "0123456789abcdef", "round": 0, "rounds": 4}
ROSTER = {"event": "roster", "sites": ["alder", "birch", "cedar"]}
DONE = {"event": "finished", "round": 4}


def asked(number: int, *sites: str, task: str = "train") -> dict[str, Any]:
    return {"event": "asked", "round": number, "task": task, "sites": sites}


def update(number: int, site: str) -> dict[str, Any]:
    return {"event": "update", "round": number, "site": site, "bytes_up": 1, "norm": 1.0}


def failure(number: int, site: str, problem: str = "The site's disk is full.") -> dict[str, Any]:
    return {"event": "problem", "round": number, "site": site, "problem": problem, "code": "x"}


def closed(number: int, **seconds: float) -> dict[str, Any]:
    return {
        "event": "round",
        "round": number,
        "seconds": 10.0,
        "bytes_up": dict.fromkeys(seconds, 1_000_000),
        "bytes_down": dict.fromkeys(seconds, 2_000_000),
        "norms": dict.fromkeys(seconds, 0.5),
        "cosines": dict.fromkeys(seconds, 0.25),
        "missing": [],
        "sites": {site: {"seconds": s} for site, s in seconds.items()},
    }


def run_of(path: Path, *events: dict[str, Any]) -> Path:
    path.mkdir(exist_ok=True)
    for event in events:
        RunFolder(path).log(made(event))
    return path


def states(path: Path) -> dict[str, str]:
    return {site: one["state"] for site, one in status(path)["sites"].items()}


def test_states_follow_what_sites_are_asked_and_answer(tmp_path: Path) -> None:
    online = dict.fromkeys(ROSTER["sites"], "online")
    steps: list[tuple[dict[str, Any], dict[str, str]]] = [
        (START, {}),
        (ROSTER, online),
        (asked(1, "alder", "birch"), online | {"alder": "training", "birch": "training"}),
        (update(1, "birch"), online | {"alder": "training"}),
        (failure(1, "alder"), online | {"alder": "failed"}),
        (closed(1, birch=3), online | {"alder": "failed"}),
        ({"event": "paused", "round": 1, "site": "alder"}, online | {"alder": "paused"}),
        (asked(2, "birch", task="evaluate"), online | {"alder": "paused", "birch": "evaluating"}),
        ({"event": "evaluation", "round": 1, "federated": {}}, online | {"alder": "paused"}),
        ({"event": "joined", "round": 1, "site": "alder"}, online),
        (asked(4, "cedar", task="finish"), online | {"cedar": "receiving"}),
        ({"event": "received", "round": 4, "site": "cedar"}, online),
        (failure(4, "all sites"), online),
        (asked(5, "cedar"), online | {"cedar": "training"}),
        ({"event": "stopped", "reason": "stopped on request"}, online),
        (START, dict.fromkeys(ROSTER["sites"], "offline")),
        # One that was refused before the roll was called is there, and not at work.
        (failure(4, "alder"), {"alder": "failed", "birch": "offline", "cedar": "offline"}),
        (
            {"event": "roster", "sites": ["cedar"]},
            online | {"alder": "failed", "birch": "offline"},
        ),
    ]
    for event, expected in steps:
        run_of(tmp_path, event)
        assert states(tmp_path) == expected, event


@pytest.mark.parametrize(
    "task", [kind for kind in get_args(Kind) if kind not in ("describe", "statistics", "rehearse")]
)
def test_every_task_has_a_state(tmp_path: Path, task: str) -> None:
    path = run_of(tmp_path / "run", START, ROSTER, asked(1, "alder", task=task))
    assert states(path)["alder"] not in ("offline", "online", "failed")


def test_figures_of_a_round_logged_twice_count_once(tmp_path: Path) -> None:
    run_of(
        tmp_path,
        START,
        ROSTER,
        asked(1, "alder", "birch"),
        closed(1, alder=3, birch=4),
        START,  # a crash before the checkpoint
        ROSTER,
        asked(1, "alder", "birch"),
        closed(1, alder=5, birch=4),
        asked(2, "alder", "birch"),
        failure(2, "birch"),
        closed(2, alder=6),
    )
    whole = status(tmp_path)
    assert (whole["state"], whole["round"], whole["rounds"]) == ("running", 2, 4)
    assert (whole["round_s"], whole["left_s"]) == (10, 20)
    assert whole["sites"]["alder"] == {
        "state": "online",
        "rounds": 2,
        "asked": 2,
        "last_round": 2,
        "seconds": 6,
        "norm": 0.5,
        "cosine": 0.25,
        "bytes_up": 2_000_000,
        "bytes_down": 4_000_000,
        "problem": None,
        "heard": None,
    }
    birch = whole["sites"]["birch"]
    assert (birch["rounds"], birch["asked"], birch["seconds"]) == (1, 2, 4)
    assert (birch["state"], birch["problem"]) == ("failed", "The site's disk is full.")
    run_of(tmp_path, DONE)
    assert status(tmp_path)["state"] == "finished"


def test_it_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    names = ["university-hospital-of-somewhere", "b"]
    run_of(
        tmp_path,
        START | {"rounds": 100_000},
        {"event": "roster", "sites": names},
        asked(1, *names),
        closed(1, **dict.fromkeys(names, 86_400.0))
        | {"bytes_up": dict.fromkeys(names, 123_999_999_999)}
        | {"norms": dict.fromkeys(names, 80.0), "cosines": dict.fromkeys(names, -0.25)},
        asked(2, *names, task="evaluate"),
        failure(2, "b", "no answer before the deadline"),
    )
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(status(tmp_path)))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "university-ho…" in text
    for word in ("evaluating", "86,400", "124G", "80", "-0.25", "cosine", "b: no answer"):
        assert word in text


def test_before_the_first_round(tmp_path: Path) -> None:
    run_of(tmp_path, START, ROSTER)
    whole = status(tmp_path)
    assert (whole["round"], whole["left_s"]) == (0, None)
    assert Console(width=80, file=open("/dev/null", "w")).print(table(whole)) is None  # noqa: SIM115


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        status(tmp_path)


def test_the_command(tmp_path: Path, command: Callable[..., Any]) -> None:
    run_of(tmp_path, START, ROSTER, closed(1, alder=3))
    ended = command(main, "status", tmp_path)
    assert ended.code == 0
    assert "running, round 1 of 4" in ended.out
    ended = command(main, "status", tmp_path, "--json")
    assert json.loads(ended.out) == json.loads(json.dumps(status(tmp_path) | {"warnings": []}))
    ended = command(main, "status", tmp_path / "nothing")
    assert (ended.code, ended.out) == (2, "")


def test_a_real_run(run_federation: Callable[..., Any]) -> None:
    """The events that the round loop tells are those that this reads."""
    outcome = run_federation(lambda site, kind, number, header, data: (header, data))
    whole = status(outcome.folder.path)
    assert (whole["state"], whole["round"], whole["rounds"]) == ("finished", 2, 2)
    for site in ("alder", "birch", "cedar"):
        one = whole["sites"][site]
        assert (one["state"], one["rounds"], one["asked"]) == ("online", 2, 2)
        assert one["norm"] > 0
        assert -1 <= one["cosine"] <= 1


HOSTILE = "\x1b]0;pwned\x07\x1b[2J[/red]\nbirch: all is well"


def test_what_a_site_says_is_neither_obeyed_nor_markup(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    run = run_of(tmp_path / "run", START, ROSTER, asked(1, "alder"), failure(1, "alder", HOSTILE))
    shown = command(main, "status", run)
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert "\x07" not in shown.out
    assert "alder: ]0;pwned" in shown.out
    assert "[/red]" in shown.out
    assert not any(line.startswith("birch: all is well") for line in shown.out.splitlines())
    line = line_of(made(failure(1, "alder", HOSTILE)))
    assert line is not None
    assert line.isprintable()
