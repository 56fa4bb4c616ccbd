"""Enough is a number of sites and a share of what is public about them."""

import pytest

from mama.config.federation import ParticipationConfig
from server.cohort.quorum import Quorum

SITES = ["alder", "birch", "cedar", "dogwood"]


def quorum(**values: object) -> Quorum:
    config = ParticipationConfig.model_validate(values)
    return Quorum(config, config.shares)


def test_without_shares_all_sites_are_equal() -> None:
    assert quorum().share(["alder"], SITES) == 0.25
    assert quorum(quorum_share=0.5).holds(["alder", "birch"], SITES)
    assert not quorum(quorum_share=0.5).holds(["alder"], SITES)


def test_shares_are_relative_and_a_site_without_one_has_1() -> None:
    # 6 + 2 + 1 + 1 = 10
    rule = quorum(shares={"alder": 6, "birch": 2}, quorum_share=0.6)
    assert rule.share(["birch", "cedar"], SITES) == pytest.approx(0.3)
    assert rule.holds(["alder"], SITES)
    assert not rule.holds(["birch", "cedar", "dogwood"], SITES)


def test_both_must_hold() -> None:
    rule = quorum(shares={"alder": 97}, quorum=2, quorum_share=0.9)
    assert not rule.holds(["alder"], SITES)
    assert not rule.holds(["birch", "cedar"], SITES)
    assert rule.holds(["alder", "birch"], SITES)


def test_rounding_does_not_decide() -> None:
    rule = quorum(shares=dict.fromkeys(SITES, 0.1), quorum_share=0.75)
    assert rule.holds(SITES[:3], SITES)


def test_nobody_is_no_share_of_nobody() -> None:
    assert quorum().share([], []) == 0


def test_the_shortfall_is_given_as_what_is_missing() -> None:
    rule = quorum(quorum=2, quorum_share=0.75)
    assert rule.shortfall(["alder"], SITES) == "1 of at least 2 sites answered"
    assert rule.shortfall(SITES[:2], SITES) == (
        "sites with 50 % of the public share answered, at least 75 % must"
    )
