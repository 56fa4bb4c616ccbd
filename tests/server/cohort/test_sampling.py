"""Sampling of sites follows from seed and round, and from the sites that are connected."""

from typing import Any

import pytest
from pydantic import ValidationError

from mama.config.federation import ParticipationConfig
from server.cohort.sampling import enrolled, sample_sites

SITES = [f"site-{number}" for number in range(10)]


def chosen(
    number: int, *, seed: int = 0, resting: Any = (), here: Any = SITES, **config: Any
) -> tuple[list[str], list[str]]:
    participation = ParticipationConfig.model_validate(config)
    return sample_sites(participation, seed, number, set(SITES), set(resting), here)


def test_all_are_asked_whether_they_are_there_or_not() -> None:
    assert chosen(1, here=SITES[:2]) == (SITES, SITES)


def test_paused_sites_rest_but_count_as_missing() -> None:
    assert chosen(1, resting=SITES[:2]) == (SITES[2:], SITES)


def test_paused_sites_are_asked_when_the_others_are_no_quorum() -> None:
    assert chosen(1, resting=SITES[:2], quorum=9) == (SITES, SITES)


def test_a_fraction_is_drawn_from_who_is_there() -> None:
    asked, meant = chosen(1, sites_per_round=0.3, here=SITES[:5])
    assert asked == sorted(asked)
    # Those that are away are missed.
    assert meant == sorted({*asked, *SITES[5:]})
    assert len(asked) == 2  # 1.5 rounded up
    assert set(asked) <= set(SITES[:5])


def test_a_fraction_is_at_least_the_quorum() -> None:
    assert len(chosen(1, sites_per_round=0.1, quorum=4)[0]) == 4
    assert chosen(1, sites_per_round=0.1, quorum=4, here=SITES[:3])[0] != SITES[:3]


def test_the_same_round_asks_the_same_and_others_ask_others() -> None:
    draws = [chosen(number, sites_per_round=0.3)[0] for number in range(1, 200)]
    assert draws == [chosen(number, sites_per_round=0.3)[0] for number in range(1, 200)]
    assert len({tuple(draw) for draw in draws}) > 50
    assert chosen(1, sites_per_round=0.3, seed=1)[0] != draws[0]
    times = [sum(site in draw for draw in draws) for site in SITES]
    assert min(times) > 30
    assert max(times) < 90  # of 60 expected


def test_cohorts_take_turns_and_wait_for_members_that_never_came() -> None:
    cohorts = [["site-1", "site-0"], ["new", "site-9"]]
    assert chosen(1, sites_per_round=cohorts)[0] == ["site-0", "site-1"]
    assert chosen(2, sites_per_round=cohorts) == (["new", "site-9"], ["new", "site-9"])
    assert chosen(3, sites_per_round=cohorts)[0] == ["site-0", "site-1"]


def test_the_experiment_names_sites_in_shares_and_cohorts() -> None:
    config = ParticipationConfig.model_validate(
        {"shares": {"alder": 2}, "sites_per_round": [["birch"], ["cedar", "birch"]]}
    )
    assert enrolled(config) == {"alder", "birch", "cedar"}
    assert enrolled(ParticipationConfig()) == set()


def test_a_cohort_smaller_than_the_quorum_is_refused() -> None:
    with pytest.raises(ValidationError, match="a cohort has 1 sites but the quorum is 2"):
        chosen(1, quorum=2, sites_per_round=[["a", "b"], ["c", "c"]])
