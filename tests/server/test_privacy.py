"""The privacy statement: the newest word of each site's ledger, the largest epsilon, and lines for people."""

from typing import Any

from mama.config_privacy import PrivacyConfig
from server.privacy import sentences, spent, statement

PATIENT = PrivacyConfig(mode="patient", epsilon=8, delta=1e-5)


def told(number: int, **sites: tuple[float, int, str]) -> dict[str, Any]:
    return {
        "event": "round",
        "round": number,
        "sites": {
            site: {
                "studies": 8,
                "privacy": {
                    "epsilon": epsilon,
                    "replace_one": None,
                    "delta": 1e-5,
                    "steps": steps,
                    "head": head * 64,
                },
            }
            for site, (epsilon, steps, head) in sites.items()
        },
    }


EVENTS = [
    {"event": "start", "round": 0},
    told(1, alder=(1.0, 10, "a"), birch=(2.0, 20, "b")),
    told(2, alder=(3.0, 20, "c")),
    told(1, alder=(1.5, 15, "d")),  # a start after a crash repeats an older round
]


def test_the_newest_word_of_each_site() -> None:
    assert {site: said["head"][0] for site, said in spent(EVENTS).items()} == {
        "alder": "c",
        "birch": "b",
    }


def test_the_statement() -> None:
    found = statement(PATIENT, EVENTS)
    assert found is not None
    assert found["maximum"] == 3.0
    assert found["sites"]["birch"] == {
        "epsilon": 2.0, "replace_one": None, "delta": 1e-5, "steps": 20,
    }  # fmt: skip
    lines = sentences(found)
    assert "alder: epsilon 3.00 at delta 1e-05 after 20 private steps" in lines[1]
    assert "unbounded for one patient replaced" in lines[1]
    assert "largest: 3.00" in lines[-1]


def test_no_statement_without_privacy() -> None:
    assert statement(PrivacyConfig(), EVENTS) is None
    assert sentences(None) == []


def test_a_private_run_without_a_round() -> None:
    found = statement(PATIENT, [])
    assert found is not None
    assert (found["sites"], found["maximum"]) == ({}, None)
    assert len(sentences(found)) == 1
