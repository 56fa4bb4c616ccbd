"""An approval is for one run of the planned rounds, whatever runs and tasks are called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.handlers import answer
from client.policy.approval import Approvals
from client.site.config import load_site
from mama.exchange.protocol import Task


@pytest.fixture
def steps(
    edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes
) -> Callable[..., int]:
    def steps(policy: dict[str, Any], approve: int = 0) -> int:
        """Steps accepted of all that an experiment of 2 rounds of 2 steps can request."""
        site = load_site(edit(policy=policy))
        if approve:
            Approvals(site).approve(make_task().experiment_hash, runs=approve)
        taken: list[int] = []
        for run in ("r1", "r2", "r3"):
            for number in (1, 2, 3, 50, 1000):
                for task in ("a", "b"):
                    header = make_task(run=run, round=number, task=f"{task}-{number}").encode()
                    answer(site, header, payload, lambda _, step: taken.append(step))
        return len(taken)

    return steps


def test_a_rule_is_for_the_steps_of_one_run(steps: Callable[..., int]) -> None:
    assert steps({"approval": True, "auto_approve": {"max_steps": 4}}) == 4


@pytest.mark.parametrize("runs", [1, 2])
def test_a_person_approves_so_many_runs(steps: Callable[..., int], runs: int) -> None:
    assert steps({"approval": True}, approve=runs) == 4 * runs


def test_without_approval_each_run_ends_with_its_plan(steps: Callable[..., int]) -> None:
    assert steps({}) == 12


def test_a_damaged_record_of_the_plan_trains_nothing(
    edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes
) -> None:
    site = load_site(edit(policy={"approval": True, "auto_approve": {"max_steps": 4}}))
    assert answer(site, make_task().encode(), payload)[0].status == "ok"
    (record,) = (site.state / "service" / "plans").iterdir()
    record.write_text("{}")
    again = make_task(round=2, task="train-2").encode()
    assert answer(site, again, payload)[0].status != "ok"
