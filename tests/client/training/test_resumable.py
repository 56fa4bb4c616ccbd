"""Rounds that are killed, or out of time or disk: only what was not yet on disk is lost."""

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.handlers import answer
from client.site.config import SiteFile, load_site
from client.training.resumable import RoundLimits
from mama.exchange.codecs.coding import decode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task
from mama.training.diagnostics import TrainingRecord

STEPS = 4
STOP_FILES = 3  # optimiser, corrections, model
# optimiser, its states.json, plan, lineage, residual, its states.json, answer, head of what was
# sent
LAST_FILES = 8


@pytest.fixture
def second_round(
    edit: Callable[..., Path],
    make_task: Callable[..., Task],
    small_config: Callable[..., Any],
    payload: bytes,
) -> tuple[SiteFile, str]:
    """Site after one round, with steps kept after each and error feedback; and its next task."""
    experiment = small_config(f"federation.local_steps={STEPS}", "exchange.up=int8").experiment()
    site = load_site(edit(checkpoint_s=0))
    assert answer(site, make_task(of=experiment).encode(), payload)[0].status == "ok"
    return site, make_task(of=experiment, round=2, task="train-2-alder").encode()


def figures(reply: Answer) -> dict[str, Any]:
    """All of an answer but how long it took."""
    values = reply.model_dump(mode="json")
    return values | {"training": values["training"] | {"seconds": 0}}


def kill_at_rename(number: int) -> None:
    """Die by SIGKILL instead of renaming a file the `number`-th time (from 0)."""
    renames, rename = iter(range(number)), os.replace

    def replace(source: str, target: str) -> None:
        if next(renames, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]


def test_killed_at_any_file_it_writes_a_round_ends_as_if_nothing_had_happened(
    second_round: tuple[SiteFile, str],
    payload: bytes,
    in_child: Callable[..., int | bytes],
    tmp_path: Path,
) -> None:
    site, header = second_round
    before = tmp_path / "before"
    shutil.copytree(site.state, before)
    straight, update = answer(site, header, payload)
    assert straight.training is not None
    assert straight.training.steps == STEPS
    assert not (site.state / "runs" / "run-1" / "open_round").exists()
    files = STOP_FILES * (STEPS - 1) + LAST_FILES
    for number in range(files + 1):
        shutil.rmtree(site.state)
        shutil.copytree(before, site.state)

        def die(number: int = number) -> bytes:
            kill_at_rename(number)
            return answer(site, header, payload)[0].encode().encode()

        ended = in_child(die)
        assert (ended == signal.SIGKILL) == (number < files), number
        steps: list[int] = []
        again, same = answer(site, header, payload, lambda _, step, steps=steps: steps.append(step))
        assert same == update, number
        assert figures(again) == figures(straight), number
        answered = number > files - 2  # the answer is on the disk
        done = STEPS if answered else min(number // STOP_FILES, STEPS - 1)
        assert steps == list(range(STEPS + done, 2 * STEPS)), number
        left = {path.name for path in (site.state / "runs" / "run-1").iterdir()}
        assert left == {
            "last_answer.safetensors",
            "lineage.json",
            "lock",
            "optimiser",
            "residual",
            "states.json",
        }
        assert not list(site.run_folder("run-1").rglob(".*"))  # torn files are swept away


def test_another_task_or_model_does_not_take_up_the_steps(
    second_round: tuple[SiteFile, str],
    payload: bytes,
    in_child: Callable[..., int | bytes],
) -> None:
    site, header = second_round

    def die() -> bytes:
        kill_at_rename(STOP_FILES)
        return answer(site, header, payload)[0].encode().encode()

    assert in_child(die) == signal.SIGKILL
    assert list((site.state / "runs" / "run-1" / "open_round").glob("*/model.safetensors"))
    steps: list[int] = []
    other = json.dumps(json.loads(header) | {"task": "train-2b-alder"})
    reply, _ = answer(site, other, payload, lambda _, step: steps.append(step))
    assert reply.status == "ok"
    assert steps == list(range(STEPS, 2 * STEPS))


def test_damaged_steps_are_taken_again(
    second_round: tuple[SiteFile, str],
    payload: bytes,
    in_child: Callable[..., int | bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    site, header = second_round

    def die() -> bytes:
        kill_at_rename(STOP_FILES)
        return b""

    in_child(lambda: (die(), answer(site, header, payload))[0])
    for path in (site.state / "runs" / "run-1" / "open_round").rglob("optimiser.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])
    steps: list[int] = []
    reply, _ = answer(site, header, payload, lambda _, step: steps.append(step))
    assert reply.status == "ok"
    assert len(steps) == STEPS
    assert "starts again" in caplog.text


def test_damaged_optimiser_state_costs_momentum_not_the_round(
    second_round: tuple[SiteFile, str], payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site, header = second_round
    (kept,) = (site.state / "runs" / "run-1" / "optimiser").iterdir()
    kept.write_bytes(b"")
    assert answer(site, header, payload)[0].status == "ok"
    assert "weights cannot be read" in caplog.text


# Time


def test_time_limits() -> None:
    ten = TrainingRecord(steps=9, skipped=1, seconds=20)  # 2 s a step
    now = time.monotonic()
    for limits, reached in [
        (RoundLimits(), False),
        (RoundLimits(end=now - 1), True),
        (RoundLimits(end=now + 1), True),
        (RoundLimits(end=now + 1000), False),
        (RoundLimits(budget_s=21), True),
        (RoundLimits(budget_s=23), False),
        (RoundLimits(end=now + 1000, budget_s=21), True),
        (RoundLimits(steps=10), True),
        (RoundLimits(steps=11), False),
        (RoundLimits(end=now + 1, budget_s=1000), True),
    ]:
        assert limits.reached(ten) == reached, limits
    assert not RoundLimits(end=now - 1, budget_s=1e-9).reached(TrainingRecord())


@pytest.mark.parametrize("limit", ["deadline", "experiment", "policy", "steps"])
def test_a_round_out_of_time_sends_what_it_has_and_the_next_starts_where_it_was_planned(
    limit: str,
    edit: Callable[..., Path],
    make_task: Callable[..., Task],
    small_config: Callable[..., Any],
    payload: bytes,
) -> None:
    overrides = ["federation.local_steps=3"]
    policy = {"policy": {"max_round_s": 1e-9}, "steps": {"max_round_steps": 1}}.get(limit, {})
    if limit == "experiment":
        overrides.append("participation.budget_s=1e-9")
    experiment = small_config(*overrides).experiment()
    site = load_site(edit(policy=policy))
    short = {"deadline_s": 1e-9} if limit == "deadline" else {}
    steps: list[int] = []
    for number in (1, 2):
        task = make_task(of=experiment, round=number, task=f"train-{number}", **short)
        reply, update = answer(site, task.encode(), payload, lambda _, step: steps.append(step))
        assert reply.training is not None
        assert (reply.training.steps, reply.training.skipped) == (1, 0)
        assert any(array.any() for array in decode(update).values())
    assert steps == [0, 3]


def test_limits_that_are_far_away_change_nothing(
    edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes
) -> None:
    site = load_site(edit(policy={"max_round_s": 1e6}))
    reply, _ = answer(site, make_task(deadline_s=1e6).encode(), payload)
    assert reply.training is not None
    assert reply.training.steps == 2


def test_a_site_that_comes_back_too_late_sends_the_steps_on_its_disk(
    second_round: tuple[SiteFile, str],
    payload: bytes,
    in_child: Callable[..., int | bytes],
) -> None:
    site, header = second_round

    def die() -> bytes:
        kill_at_rename(2 * STOP_FILES)
        return answer(site, header, payload)[0].encode().encode()

    assert in_child(die) == signal.SIGKILL
    steps: list[int] = []
    late = json.dumps(json.loads(header) | {"deadline_s": 1e-9})
    reply, _ = answer(site, late, payload, lambda _, step: steps.append(step))
    assert reply.training is not None
    assert (reply.training.steps, steps) == (2, [])


# Disk


@pytest.mark.parametrize("full_from", [STEPS, STEPS + 2])
def test_a_full_disk_has_its_own_code_and_nothing_kept_is_lost(
    second_round: tuple[SiteFile, str],
    payload: bytes,
    in_child: Callable[..., int | bytes],
    tmp_path: Path,
    full_from: int,
) -> None:
    site, header = second_round
    shutil.copytree(site.state, tmp_path / "before")

    def limited() -> bytes:
        def fill(_: str, step: int) -> None:
            if step == full_from:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

        return answer(site, header, payload, fill)[0].encode().encode()

    said = in_child(limited)
    assert isinstance(said, bytes)
    reply = Answer.decode(said.decode())
    assert reply.status == ErrorCode.DISK_FULL
    assert reply.training is None

    for path in (tmp_path / "before").rglob("*.safetensors"):
        kept = site.state / path.relative_to(tmp_path / "before")
        assert kept.read_bytes() == path.read_bytes()
    again, update = answer(site, header, payload)
    shutil.rmtree(site.state)
    shutil.copytree(tmp_path / "before", site.state)
    straight, same = answer(site, header, payload)
    assert update == same
    assert figures(again) == figures(straight)


# Two processes


def test_a_task_that_two_processes_have_is_done_once(
    second_round: tuple[SiteFile, str],
    payload: bytes,
    in_child: Callable[..., int | bytes],
) -> None:
    """As when a daemon was started again while the old one's work went on."""
    site, header = second_round
    reading, writing = os.pipe()
    other = os.fork()
    if other == 0:
        code = 1
        try:
            answer(site, header, payload, lambda _, step: os.write(writing, b"x"))
            code = 0
        finally:
            os._exit(code)
    os.read(reading, 1)  # it is at work
    steps: list[int] = []
    reply, _ = answer(site, header, payload, lambda _, step: steps.append(step))
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
    assert reply.status == "ok"
    assert steps == []
