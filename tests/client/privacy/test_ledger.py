"""Ledger: charges equal Opacus's, after a crash at any instant, and changes are detected."""

import contextlib
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opacus.accountants import RDPAccountant

import client.privacy.ledger
from client.privacy.ledger import EMPTY, SiteLedger
from client.site.config import BudgetConfig
from mama.errors import BudgetError, PrivacyError

Z, Q = 2.0, 0.1
WIDE = BudgetConfig(epsilon=1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "privacy" / "ledger"


def opened(path: Path, budget: BudgetConfig = WIDE, run: str = "run-1") -> SiteLedger:
    return SiteLedger(path, budget, run, 1, "data")


def filled(path: Path, steps: int = 5) -> SiteLedger:
    ledger = opened(path)
    for step in range(steps):
        ledger.reserve(step, Z, Q)
    return ledger


def charged(path: Path) -> int:
    return sum(steps for _, _, steps in SiteLedger(path, WIDE).charges)


def opacus(*history: tuple[float, float, int], delta: float = 1e-5) -> float:
    accountant = RDPAccountant()
    accountant.history = list(history)
    return accountant.get_epsilon(delta)


def test_epsilon_is_opacus_over_what_is_charged(path: Path) -> None:
    ledger = filled(path, 4)
    opened(path, run="run-2").reserve(0, 3.0, 0.2)
    ledger.reserve(3, Z, Q)  # a step taken again costs again
    again = opened(path)
    expected = opacus((Z, Q, 5), (3.0, 0.2, 1))
    assert again.epsilon() == ledger.epsilon() == pytest.approx(expected, rel=1e-9)
    assert [e.epsilon for e in again.entries][-1] == pytest.approx(expected, rel=1e-9)
    assert [(e.run, e.round, e.step) for e in again.entries][3:] == [
        ("run-1", 1, 3), ("run-2", 1, 0), ("run-1", 1, 3),
    ]  # fmt: skip
    assert again.head == ledger.head != EMPTY


def test_the_step_too_many_is_not_charged(path: Path) -> None:
    budget = BudgetConfig(epsilon=opacus((Z, Q, 3)) + 1e-9)
    ledger = opened(path, budget)
    ledger.require_budget(3, Z, Q)
    with pytest.raises(BudgetError):
        ledger.require_budget(4, Z, Q)
    for step in range(3):
        ledger.reserve(step, Z, Q)
    before = path.read_bytes()
    for one in (ledger, opened(path, budget, run="another")):
        with pytest.raises(BudgetError, match="above the budget"):
            one.reserve(3, Z, Q)
        with pytest.raises(BudgetError):
            one.require_budget(1, 50.0, 0.01)
    assert path.read_bytes() == before
    # A budget at a smaller delta is a smaller one.
    with pytest.raises(BudgetError):
        opened(path, budget.model_copy(update={"delta": 1e-7})).require_budget(0, Z, Q)


def test_nothing_is_charged_by_looking(path: Path) -> None:
    ledger = opened(path)
    assert (ledger.epsilon(), ledger.head, ledger.charges) == (0, EMPTY, [])
    assert not path.exists()


def change(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [lines[0].replace(b'"z":2.0', b'"z":4.0'), *lines[1:]],
        lambda lines: [*lines[:-1], lines[-1].replace(b'"z":2.0', b'"z":4.0')],
        lambda lines: lines[1:],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [*lines[:2], lines[2][:80] + b"\n", *lines[3:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:2], b"torn\n", *lines[2:]],
    ],
)
def test_a_changed_file_is_seen(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    filled(path)
    change(path, edit)
    with pytest.raises(PrivacyError, match="was changed"):
        opened(path)


def test_any_flipped_bit_is_seen_or_charged(path: Path) -> None:
    head = filled(path, 3).head
    data = path.read_bytes()
    generator = random.Random(0)
    for place in generator.sample(range(len(data)), 120):
        path.write_bytes(
            data[:place] + bytes([data[place] ^ (1 << generator.randrange(8))]) + data[place + 1 :]
        )
        try:
            ledger = opened(path)
            assert sum(steps for _, _, steps in ledger.charges) >= 3
            ledger.require([head])
        except PrivacyError:
            continue
        # Unseen only where it changes nothing: the last line's end, which the next writer adds.
        assert place == len(data) - 1


def test_a_file_cut_back_is_missed_by_those_who_knew_it(path: Path) -> None:
    heads = [filled(path, 1).head for _ in range(4)]
    opened(path).require(heads)
    opened(path).require([EMPTY])
    change(path, lambda lines: lines[:3])
    opened(path).require(heads[:3])
    with pytest.raises(PrivacyError, match="lacks steps"):
        opened(path).require([heads[3]])
    path.unlink()
    with pytest.raises(PrivacyError, match="lacks steps"):
        opened(path).require([heads[0]])


def test_a_shorter_file_is_seen_by_an_open_ledger(path: Path) -> None:
    ledger = filled(path)
    change(path, lambda lines: lines[:2])
    with pytest.raises(PrivacyError, match="was changed"):
        ledger.reserve(5, Z, Q)


def test_a_torn_last_line_counts_as_spent(path: Path) -> None:
    filled(path, 3)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for kept in range(1, len(last) - 1):
        path.write_bytes(whole[: len(whole) - len(last) + kept])
        assert charged(path) == 3
        if kept % 50 == 0:
            opened(path).reserve(2, Z, Q)
            assert charged(path) == 4
            assert opened(path).entries[-1].steps == 2
    # Without its end alone, the line is whole.
    path.write_bytes(whole[:-1])
    assert charged(path) == 3
    opened(path).reserve(3, Z, Q)
    assert [e.steps for e in opened(path).entries] == [1, 1, 1, 1]


def test_lines_torn_one_after_the_other(path: Path) -> None:
    filled(path, 1)
    with open(path, "ab") as handle:
        handle.write(b"ab\ncd\nef")
    assert charged(path) == 4
    opened(path).reserve(1, Z, Q)
    assert charged(path) == 5
    # A first line that is torn costs what the next one says.
    path.write_bytes(b"12ab")
    opened(path).reserve(0, Z, Q)
    assert charged(path) == 2


def test_torn_lines_are_paid_before_a_step(path: Path) -> None:
    budget = BudgetConfig(epsilon=opacus((Z, Q, 3)) + 1e-9)
    filled(path, 2)
    with open(path, "ab") as handle:
        handle.write(b"torn")
    with pytest.raises(BudgetError):
        opened(path, budget).reserve(2, Z, Q)


def test_two_ledgers_of_one_file_continue_each_other(path: Path) -> None:
    one, other = opened(path), opened(path)
    for step in range(6):
        (one if step % 2 else other).reserve(step, Z, Q)
    assert charged(path) == 6
    assert opened(path).head == one.head


def forked(work: Callable[[], None]) -> int:
    """Run `work` in a process of its own; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def released_by(mark: Path) -> int:
    return mark.stat().st_size if mark.exists() else 0


def steps_until_killed(path: Path, mark: Path, limit: int = 10**9) -> None:
    """Reserve, then release: a byte in `mark` stands for what a step tells."""
    ledger = opened(path)
    out = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for step in range(limit):
        ledger.reserve(step, Z, Q)
        os.write(out, b"x")


def test_kill_9_at_any_instant_never_undercounts(path: Path, tmp_path: Path) -> None:
    mark, kills = tmp_path / "mark", 0
    generator = random.Random(1)
    for _ in range(25):
        # Three processes on one ledger, two of which are killed.
        mates = [forked(lambda: steps_until_killed(path, mark)) for _ in range(2)]
        third = forked(lambda: steps_until_killed(path, mark, 5))
        for mate in mates:
            time.sleep(generator.uniform(0, 0.02))
            os.kill(mate, signal.SIGKILL)
            kills += 1
        for child in (*mates, third):
            os.waitpid(child, 0)
    assert released_by(mark) >= 25 * 5
    assert released_by(mark) <= charged(path) <= released_by(mark) + kills
    ledger = opened(path)
    ledger.reserve(0, Z, Q)
    count = charged(path)
    assert ledger.epsilon() == pytest.approx(opacus((Z, Q, count)), rel=1e-9)


@pytest.mark.parametrize("instant", ["write", "sync", "after"])
def test_kill_9_inside_the_write(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instant: str
) -> None:
    """The process dies after any number of bytes, before they are on disk, or before the step."""
    mark, generator, kills = tmp_path / "mark", random.Random(2), 40
    real = os.write

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def torn(file: int, data: bytes) -> int:
        if len(data) > 1 and generator.random() < 0.3:
            real(file, data[: generator.randrange(len(data))])
            die()
        return real(file, data)

    for _ in range(kills):
        generator.random()  # each child dies at its own instant
        with monkeypatch.context() as patch:
            if instant == "write":
                patch.setattr(client.privacy.ledger.os, "write", torn)
            elif instant == "sync":
                patch.setattr(client.privacy.ledger.os, "fsync", die)
            else:
                patch.setattr(SiteLedger, "_take", die)
            _, status = os.waitpid(forked(lambda: steps_until_killed(path, mark, 50)), 0)
        assert os.WIFSIGNALED(status) or instant != "sync"
        generator.seed(kills * 1000 + path.stat().st_size)
    assert released_by(mark) <= charged(path) <= released_by(mark) + kills
    assert charged(path) > 0


def test_a_full_disk_ends_training_and_loses_nothing(path: Path) -> None:
    filled(path, 3)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100,) * 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        ledger = opened(path)
        with contextlib.suppress(PrivacyError):
            ledger.reserve(3, Z, Q)
            os._exit(1)
        os._exit(7)

    _, status = os.waitpid(forked(work), 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert charged(path) == 4  # the torn line counts
    opened(path).reserve(3, Z, Q)
    assert charged(path) == 5


def test_a_ledger_is_for_its_owner_alone_and_holds_no_patient(path: Path) -> None:
    filled(path, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    body = json.loads(path.read_bytes()[65:])
    assert set(body) == {
        "run", "round", "step", "z", "q", "steps", "dataset", "adjacency", "epsilon", "delta",
        "nonce",
    }  # fmt: skip
