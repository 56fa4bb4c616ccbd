"""Privacy statement: latest ledger of each site, largest epsilon, and sentences."""

from collections.abc import Callable
from typing import Any

import pytest

from mama.config import Experiment
from server.report.privacy import of_sites, sentences, spent, statement
from server.run.history import RunHistory, replay
from server.run.site_history import SiteHistory
from tests.events import made

PATIENT = "privacy={mode: patient, epsilon: 8, delta: 1.0e-5, slots: 64}"
Make = Callable[..., Experiment]


@pytest.fixture
def make(small_config: Callable[..., Any]) -> Make:
    return lambda *overrides: small_config(*overrides).experiment()


def closed(number: int, **sites: tuple[float, int, str]) -> dict[str, Any]:
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
                    "run_epsilon": epsilon / 2,
                    "run_steps": steps // 2,
                    "head": head * 64,
                },
            }
            for site, (epsilon, steps, head) in sites.items()
        },
    }


EVENTS = [
    {"event": "start", "round": 0},
    closed(1, alder=(1.0, 10, "a"), birch=(2.0, 20, "b")),
    closed(2, alder=(3.0, 20, "c")),
    closed(1, alder=(1.5, 15, "d")),  # a start after a crash repeats an older round
]
HISTORY = replay(map(made, EVENTS))


def test_the_newest_word_of_each_site() -> None:
    assert {site: said["head"][0] for site, said in spent(HISTORY, {}).items()} == {
        "alder": "c",
        "birch": "b",
    }


def test_the_statement(make: Make) -> None:
    found = statement(make(PATIENT), HISTORY, SiteHistory())
    assert found is not None
    assert found["maximum"] == 3.0
    assert found["sites"]["birch"] == {
        "epsilon": 2.0, "replace_one": None, "delta": 1e-5, "steps": 20,
        "run_epsilon": 1.0, "run_steps": 10,
    }  # fmt: skip
    lines = sentences(found)
    assert "epsilon at most 8 planned at delta 1e-05" in lines[0]
    assert "largest of all runs: 3.00" in lines[-1]
    assert of_sites(found)[0] == ("alder", "1.50", "10", "3.00", "20", "1e-05", "no bound")


def test_secure_aggregation_is_stated(make: Make) -> None:
    secure = "privacy.secure={threshold: 2}"
    lost = [*EVENTS, closed(3) | {"lost": True}]
    found = statement(make(secure), replay(map(made, lost)), SiteHistory())
    assert found == {"mode": "none", "secure": {"threshold": 2, "rounds": 3, "lost": 1}}
    (line,) = sentences(found)
    assert "the mean of 2 of 3 rounds and no single update, unless 2 sites helped it" in line
    both = statement(
        make(secure, PATIENT.replace("}", ", secure: {threshold: 2}}"), "strategy.weights=uniform"),
        replay(map(made, lost)),
        SiteHistory(),
    )
    assert [line.split(":")[0] for line in sentences(both)[:2]] == ["secure aggregation", "privacy"]


def test_no_statement_without_privacy(make: Make) -> None:
    assert statement(make(), HISTORY, SiteHistory()) is None
    assert (sentences(None), of_sites(None)) == ([], [])


def test_a_private_run_without_a_round(make: Make) -> None:
    found = statement(make(PATIENT), RunHistory(), SiteHistory())
    assert found is not None
    assert (found["sites"], found["maximum"]) == ({}, None)
    assert len(sentences(found)) == 1


def test_site_level_counts_every_round_that_was_logged(make: Make) -> None:
    rounds = "federation.rounds=3"  # the second one is in the events twice
    site_level = "privacy={mode: site, epsilon: 5, delta: 0.01}"
    found = statement(make(site_level, "strategy.weights=uniform", rounds), HISTORY, SiteHistory())
    assert found is not None
    assert (found["rounds"], found["sites"]) == (3, {})
    assert 4.98 <= found["maximum"] <= 5
    (line,) = sentences(found)
    assert "site-level" in line
    assert f"{found['maximum']:.2f} after 3 rounds" in line
