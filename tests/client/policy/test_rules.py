"""The site's rules: each refuses what goes beyond it with its own code, and nothing else."""

from collections.abc import Callable
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest

from client.errors import RefusedError
from client.identity.roster import take_roster
from client.policy.rules import (
    allowed_counts,
    allowed_training,
    check,
    check_upload,
    explain,
    review,
    upload_mb,
    within,
)
from client.site.config import SiteFile
from mama.config import Experiment
from mama.errors import ConfigError
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import EvaluationCounts, LabelCounts, Recall, TrainingMetrics
from tests.client.authority import Authority

NOON = datetime(2026, 1, 1, 12, 0)


@pytest.mark.parametrize(
    ("rule", "override", "code"),
    [
        ({"max_local_steps": 2}, "federation.local_steps=3", ErrorCode.POLICY_STEPS),
        (
            {"base_models": ["vit_tiny_r_s16_p8_224", "all-MiniLM-L6-v2"]},
            "image.tower=vit_tiny_patch16_224",
            ErrorCode.POLICY_MODEL,
        ),
        ({"min_cohort": 2}, "participation.quorum=1", ErrorCode.POLICY_COHORT),
    ],
)
def test_a_rule_allows_its_limit_and_refuses_what_is_beyond(
    site_with: Callable[..., SiteFile],
    asks: Callable[..., Experiment],
    rule: dict[str, Any],
    override: str,
    code: ErrorCode,
) -> None:
    check(site_with(**rule), asks(), NOON)
    with pytest.raises(RefusedError) as refused:
        check(site_with(**rule), asks(override), NOON)
    assert refused.value.code == code
    check(site_with(), asks(override), NOON)  # without the rule it is let be


def test_privacy_may_be_demanded(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    with pytest.raises(RefusedError) as refused:
        check(site_with(require_privacy=True), asks(), NOON)
    assert refused.value.code == ErrorCode.POLICY_PRIVACY


def test_secure_aggregation_may_be_demanded(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    with pytest.raises(RefusedError) as refused:
        check(site_with(require_secure=True), asks(), NOON)
    assert refused.value.code == ErrorCode.POLICY_SECURE
    masked = asks("privacy.secure={threshold: 2}", "participation.quorum=2")
    check(site_with(require_secure=True), masked, NOON)


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-17:30", ["08:00", "17:29"], ["07:59", "17:30", "00:00"]),
        ("20:00-06:00", ["20:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "19:59"]),
    ],
)
def test_hours(hours: str, inside: list[str], outside: list[str]) -> None:
    assert all(within(hours, time.fromisoformat(moment)) for moment in inside)
    assert not any(within(hours, time.fromisoformat(moment)) for moment in outside)


def test_outside_the_hours_nothing_is_done(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    night = site_with(hours="20:00-06:00")
    check(night, asks(), NOON.replace(hour=21))
    with pytest.raises(RefusedError) as refused:
        check(night, asks(), NOON)
    assert refused.value.code == ErrorCode.POLICY_HOURS


def test_an_update_is_at_most_so_large(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    assert upload_mb(asks(), 1_000_000) == 4.0
    coded = asks("exchange.up=int8")
    assert upload_mb(coded, 1_000_000) == pytest.approx(1.1)
    small = site_with(max_upload_mb=2)
    check_upload(small, coded, 1_000_000)
    check_upload(site_with(), asks(), 10**9)
    with pytest.raises(RefusedError) as refused:
        check_upload(small, asks(), 1_000_000)
    assert refused.value.code == ErrorCode.POLICY_UPLOAD


def test_a_rule_may_approve(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    steps = asks().total_steps
    check(site_with(approval=True, auto_approve={"max_steps": steps}), asks(), NOON)
    for rule in (
        {"max_steps": steps - 1},
        {"max_steps": steps, "private": True},
        {"max_steps": steps, "secure": True},
    ):
        with pytest.raises(RefusedError) as refused:
            check(site_with(approval=True, auto_approve=rule), asks(), NOON)
        assert refused.value.code == ErrorCode.NOT_APPROVED
    with pytest.raises(ConfigError, match="set approval: true"):
        site_with(auto_approve={"max_steps": 1})


@pytest.mark.parametrize("rule", [{"max_round_s": 60}, {"max_round_steps": 1}])
def test_a_private_experiment_does_not_get_round_a_limit_on_rounds(
    site_with: Callable[..., SiteFile],
    asks: Callable[..., Experiment],
    rule: dict[str, Any],
) -> None:
    check(site_with(**rule), asks(), NOON)
    with pytest.raises(RefusedError) as refused:
        check(site_with(**rule), asks("privacy.mode=patient"), NOON)
    assert refused.value.code == ErrorCode.POLICY_STEPS


def test_the_explanation_names_each_rule(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    findings = list(review(site_with(max_local_steps=1, min_cohort=2), asks(), NOON))
    assert explain(findings) == (
        "REFUSES  max_local_steps: at most 1; experiment: 2  [policy_steps]\n"
        "allows   bounds: default bounds; experiment: within all bounds\n"
        "allows   min_cohort: at least 2; experiment: quorum 2"
    )


def test_a_cohort_is_also_of_those_on_the_roster(
    tmp_path: Path, asks: Callable[..., Experiment], federation: Authority
) -> None:
    careful = federation.site(tmp_path / "site", policy={"min_cohort": 2})
    check(careful, asks(), NOON)  # before the first roster the quorum counts alone
    for version, names in ((1, ["alder"]), (2, ["alder", "birch"]), (3, [])):
        take_roster(careful, federation.signed(version, *names))
        *_, found = review(careful, asks(), NOON)
        assert found.requested == f"quorum 2, {len(names)} on the roster"
        assert found.passes == (len(names) == 2)
        assert found.code == ErrorCode.POLICY_COHORT


def test_what_a_site_insists_on_under_secure_aggregation(
    tmp_path: Path, asks: Callable[..., Experiment], federation: Authority
) -> None:
    careful = federation.site(tmp_path / "site", peers={"minimum_sites": 3, "least_bits": 20})

    def findings(more: str = "") -> list[bool]:
        asked = asks(f"privacy.secure={{threshold: 2{more}}}")
        return [found.passes for found in review(careful, asked, NOON) if found.rule == "peers"]

    assert findings() == findings(", bits: 20") == [True]  # nobody knows yet how many there are
    assert findings(", bits: 16") == findings(", limit: 2") == [False]
    assert [f for f in review(careful, asks(), NOON) if f.rule == "peers"] == []
    for version, names in ((1, ["alder", "birch"]), (2, ["alder", "birch", "cedar"])):
        take_roster(careful, federation.signed(version, *names))
        assert findings() == [len(names) == 3]


def test_figures_that_may_not_leave_are_left_out(site_with: Callable[..., SiteFile]) -> None:
    training = TrainingMetrics(
        studies=9, patients=8, steps=2, skipped=0, seconds=1.0, terms={"loss": 2.0}
    )
    cells = LabelCounts(histograms={}, recalls={"A": Recall(correct=5, wrong=6)})
    counts = EvaluationCounts(
        counts={"zero_shot": {"density": cells}, "linear_probe": {"density": cells}}
    )
    free = site_with(metrics=["loss", "zero_shot", "linear_probe"])
    careful = site_with(metrics=["zero_shot"])
    assert allowed_training(site_with(), training).terms == {}
    assert allowed_training(free, training) == training
    assert allowed_counts(free, counts) == counts
    assert allowed_training(careful, training).terms == {}
    assert allowed_training(careful, training).studies == 9
    assert set(allowed_counts(careful, counts).counts) == {"zero_shot"}
    assert allowed_counts(site_with(metrics=[]), counts).counts == {}


@pytest.mark.parametrize("hours", ["8:00-17:00", "08:00", "25:00-06:00", "08:00-17:60"])
def test_impossible_hours_are_named(site_with: Callable[..., SiteFile], hours: str) -> None:
    with pytest.raises(ConfigError, match=r"policy\.hours"):
        site_with(hours=hours)
