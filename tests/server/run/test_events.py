"""Events as lines, and their fold: work that a restart undid counts nowhere."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mama.exchange.protocol import Description
from server.report.metrics import outcome
from server.report.status import status
from server.run.events import KINDS, ModelReceived, parse
from server.run.folder import RunFolder
from server.run.history import replay
from tests.events import made

BASE = Description(fingerprint="a" * 64, trained_parameters=1, frozen_parameters=1)


def start(number: int) -> dict[str, Any]:
    return {"event": "start", "run": "0123456789abcdef", "round": number, "rounds": 10}


def closed(number: int, telling: int = 0) -> list[dict[str, Any]]:
    """The events of a round; `telling` marks which telling of it this is, in all its figures."""
    figure = 1.0 + telling
    return [
        {"event": "asked", "round": number, "task": "train", "sites": ["alder"]},
        {
            "event": "round",
            "round": number,
            "seconds": figure,
            "train_s": figure,
            "bytes_up": {"alder": 10 * figure},
            "bytes_down": {"alder": 10 * figure},
            "norms": {"alder": figure},
            "cosines": {"alder": 1.0},
            "missing": [],
            "terms": {},
            "sites": {"alder": {"seconds": figure}},
        },
        {"event": "evaluation", "round": number, "federated": {"telling": telling}, "auc": None},
    ]


def test_a_round_whose_checkpoint_was_damaged_is_not_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    events = [
        start(0),
        {"event": "roster", "sites": ["alder"]},
        *[event for number in range(1, 8) for event in closed(number)],
        {"event": "damaged", "checkpoint": "round-0007", "instead": 6},
        start(6),
    ]
    for event in events:
        folder.log(made(event))
    whole = status(tmp_path)
    assert (whole["round"], whole["left_s"]) == (6, 4.0)
    alder = whole["sites"]["alder"]
    assert (alder["rounds"], alder["asked"], alder["last_round"]) == (6, 6, 6)
    assert (alder["bytes_up"], alder["bytes_down"]) == (60, 60)
    assert outcome(folder.history(), BASE)["timing"]["train_s"] == 6
    for event in closed(7, telling=1):
        folder.log(made(event))
    assert status(tmp_path)["sites"]["alder"]["seconds"] == 2.0
    assert outcome(folder.history(), BASE)["timing"]["train_s"] == 8


def test_a_start_from_a_round_whose_events_are_lost_counts_from_there(tmp_path: Path) -> None:
    RunFolder(tmp_path).log(made(start(6)))
    assert status(tmp_path)["round"] == 6


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6))
def test_each_round_counts_once_whatever_crashes(crashes: list[tuple[int, int]]) -> None:
    """Each crash comes after some more rounds, and loses the checkpoints of some of the last."""
    events, done, tellings = [start(0)], 0, dict.fromkeys(range(1, 30), -1)
    for more, lost in crashes:
        for number in range(done + 1, done + more + 1):
            tellings[number] += 1
            events += closed(number, tellings[number])
        done = max(0, done + more - lost)
        events.append(start(done))
    history = replay(map(made, events))
    assert {n: one.seconds - 1 for n, one in history.rounds.items()} == {
        number: tellings[number] for number in range(1, done + 1)
    }
    asked = history.sites["alder"].asked if history.sites else set()
    assert asked == set(range(1, done + 1))
    assert sorted(history.evaluations) == list(range(1, done + 1))
    assert len(history.paid) == sum(more for more, _ in crashes)


@given(st.sampled_from(sorted(KINDS)))
def test_an_event_survives_its_line(kind: str) -> None:
    event = made({"event": kind, "time": 1.5})
    assert parse(json.loads(json.dumps(event.record()))) == event


def test_a_line_of_another_version_is_passed_over() -> None:
    assert parse({"event": "telepathy", "round": 1}) is None
    assert parse({"event": "update", "round": 1}) is None
    assert parse({"round": 1}) is None
    newer = {"event": "received", "round": 1, "site": "alder", "mood": "good"}
    assert parse(newer) == ModelReceived(round=1, site="alder")
