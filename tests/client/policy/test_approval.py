"""Experiments that a person approved, rejected or has yet to decide on."""

import getpass
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.errors import RefusedError
from client.policy.approval import MOST_PENDING, Approvals
from client.policy.rules import (
    check,
)
from client.site.config import SiteFile, load_site
from mama.config import Experiment
from mama.errors import ConfigError
from mama.exchange.codes import ErrorCode
from mama.system.sealed import write_sealed

NOON = datetime(2026, 1, 1, 12, 0)


def test_a_person_approves_an_experiment_and_no_other(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    careful, asked = site_with(approval=True), asks()
    approvals = Approvals(careful)
    with pytest.raises(RefusedError) as refused:
        check(careful, asked, NOON)
    assert refused.value.code == ErrorCode.NOT_APPROVED
    approvals.note(asked)
    assert [path.stem for path in approvals.listed()] == [asked.hash()]
    assert approvals.listed()[0].read_text().strip() == asked.canonical_json()

    approvals.approve(asked.hash())
    check(careful, asked, NOON)
    assert approvals.listed() == []
    with pytest.raises(RefusedError):  # changed ever so little, it is another one
        check(careful, asks("seed=1"), NOON)
    approvals.withdraw(asked.hash())
    with pytest.raises(RefusedError):
        check(careful, asked, NOON)


@pytest.mark.parametrize("digest", ["", "abc", "../../etc/passwd", "A" * 64, "0" * 63 + "\n"])
def test_what_is_no_hash_is_not_approved(site_with: Callable[..., SiteFile], digest: str) -> None:
    with pytest.raises(ConfigError, match="is not an experiment hash"):
        Approvals(site_with()).approve(digest)


def test_a_coordinator_cannot_fill_the_disk_with_experiments(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    approvals = Approvals(site_with(approval=True))
    for seed in range(MOST_PENDING + 5):
        approvals.note(asks(f"seed={seed}"))
    assert len(approvals.listed()) == MOST_PENDING
    # The newest are there, so that a person can find the one that was changed last.
    assert asks(f"seed={MOST_PENDING + 4}").hash() in [p.stem for p in approvals.listed()]


@pytest.mark.parametrize("digest", ["../../victim", "abc", "0" * 64])
def test_what_was_never_approved_cannot_be_taken_back(
    site_with: Callable[..., SiteFile], digest: str, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("")
    with pytest.raises(ConfigError, match=r"hash|is not approved"):
        Approvals(site_with()).withdraw(digest)
    assert (tmp_path / "victim").exists()


def test_an_experiment_that_waits_can_be_struck(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    approvals = Approvals(site_with(approval=True))
    approvals.note(asks())
    assert "no longer pending" in approvals.withdraw(asks().hash())
    assert approvals.listed() == []


@pytest.mark.parametrize(
    "policy",
    [{}, {"approval": True}, {"approval": True, "auto_approve": {"max_steps": 10**9}}],
)
def test_a_rejection_goes_before_every_approval(
    site_with: Callable[..., SiteFile],
    asks: Callable[..., Experiment],
    policy: dict[str, Any],
) -> None:
    careful, asked = site_with(**policy), asks()
    approvals, digest = Approvals(careful), asked.hash()
    approvals.approve(digest, runs=2)
    check(careful, asked, NOON)
    approvals.note(asks("seed=1"))
    assert not approvals.reject(digest)
    assert approvals.reject(asks("seed=1").hash())
    assert approvals.listed() == []
    assert not approvals.has(digest)
    with pytest.raises(RefusedError) as refused:
        check(careful, asked, NOON)
    assert refused.value.code == ErrorCode.REJECTED
    # A damaged rejection still counts, as does one beside an approval that a crash left.
    approvals.approved.mkdir(exist_ok=True)
    write_sealed(approvals.approved / digest, {"by": "somebody"})
    (approvals.rejected / digest).write_text("{}")
    assert not approvals.has(digest)
    with pytest.raises(RefusedError):
        check(careful, asked, NOON)
    approvals.approve(digest)
    check(careful, asked, NOON)
    assert not approvals.is_rejected(digest)


def test_a_rejected_experiment_waits_again_when_that_is_taken_back(
    site_with: Callable[..., SiteFile], asks: Callable[..., Experiment]
) -> None:
    careful, asked = site_with(approval=True), asks()
    approvals = Approvals(careful)
    approvals.reject(asked.hash())
    assert "rejection withdrawn" in approvals.withdraw(asked.hash())
    with pytest.raises(RefusedError) as refused:
        check(careful, asked, NOON)
    assert refused.value.code == ErrorCode.NOT_APPROVED


@pytest.mark.parametrize("digest", ["", "abc", "../../etc/passwd", "A" * 64, "0" * 63 + "\n"])
def test_what_is_no_hash_is_not_rejected(site_with: Callable[..., SiteFile], digest: str) -> None:
    with pytest.raises(ConfigError, match="is not an experiment hash"):
        Approvals(site_with()).reject(digest)


def test_policy_and_approve_on_the_command_line(
    command: Callable[..., Any],
    site_with: Callable[..., SiteFile],
    asks: Callable[..., Experiment],
    tmp_path: Path,
) -> None:
    site_with(approval=True)
    path, asked = tmp_path / "site.yaml", asks()
    (tmp_path / "experiment.yaml").write_text(asked.canonical_json())
    explain_it = ("policy", path, "--explain", tmp_path / "experiment.yaml")
    ended = command(main, *explain_it)
    assert ended.code == 1
    assert f"[{ErrorCode.NOT_APPROVED}]" in ended.out
    assert asked.hash() in ended.out

    assert command(main, "approve", path).out == "no experiment is pending approval\n"
    Approvals(load_site(path)).note(asked)
    waiting = command(main, "approve", path).out
    assert waiting.startswith(f"{asked.hash()}\n  {asked.name}, ")
    assert command(main, "approve", path, asked.hash()).code == 0
    ended = command(main, *explain_it)
    assert ended.code == 0
    assert "REFUSES" not in ended.out
    assert command(main, "approve", path, "abc").code == 2
    command(main, "approve", path, asked.hash(), "--runs", 3)
    listed = command(main, "approve", path).out.splitlines()
    assert listed[:2] == ["no experiment is pending approval", asked.hash()]
    by = f"  approved for 3 runs, by {getpass.getuser()} at 20"
    assert listed[2].startswith(by)
    assert listed[2].endswith("+00:00")

    assert command(main, "approve", path, asked.hash(), "--reject", "--withdraw").code == 2
    assert command(main, "approve", path, "ab" * 32, "--reject").out.startswith("rejected; no such")
    assert command(main, "approve", path, asked.hash()[:8], "--reject").code == 0
    ended = command(main, *explain_it)
    assert (ended.code, f"[{ErrorCode.REJECTED}]" in ended.out) == (1, True)
    listed = command(main, "approve", path).out.splitlines()
    assert len(listed) == 5
    line = listed[listed.index(asked.hash()) + 1]
    assert line.startswith(f"  rejected, by {getpass.getuser()} at 20")
    assert "withdrawn" in command(main, "approve", path, asked.hash()[:8], "--withdraw").out


def test_the_first_digits_of_a_hash_are_enough(site_with: Callable[..., SiteFile]) -> None:
    approvals = Approvals(site_with())
    approvals.waiting.mkdir(parents=True)
    first, second = "ab" * 32, "abababab" + "cd" * 28
    for digest in (first, second):
        (approvals.waiting / f"{digest}.json").write_text("{}")
    assert approvals.whole(first[:12]) == first
    assert approvals.whole(first) == first
    assert approvals.whole("abab") == "abab"  # too short: `approve` says that it is no hash
    for prefix, message in (
        ("abababab", "several experiments"),
        ("0" * 8, "no experiment has this prefix"),
    ):
        with pytest.raises(ConfigError, match=message):
            approvals.whole(prefix)
    approvals.approve(second)
    assert approvals.whole(second[:12]) == second  # also of one that is approved, to take it back
