"""Removed, cut or changed logs of a run, by a failing disk or a tidy administrator."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.errors import IntegrityError
from mama.system.journal import read_chain
from server.aggregation.private_mean import site_epsilon
from server.cli import main
from server.report.privacy import noised
from server.run.audit import LOST
from tests.attacks.power import Power, stopped_in
from tests.events import records
from tests.server.faults import World

SITE_LEVEL = {"mode": "site", "epsilon": 8.0, "delta": 0.1, "max_grad_norm": 1e-3}


def cut(path: Path, lines: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))


def paid(world: World) -> tuple[int, float]:
    stated = world.metrics()["privacy"]
    return stated["rounds"], stated["maximum"]


@pytest.mark.parametrize("left", [None, 0, 5])
def test_rounds_whose_log_is_lost_are_paid_all_the_same(make_world: Any, left: int | None) -> None:
    world = stopped_in(make_world(privacy=SITE_LEVEL, rounds=10, weights="uniform"), 10)
    log = world.folder.path / "rounds.jsonl"
    log.unlink() if left is None else cut(log, left)
    world.run()
    assert [(e["log"], e["left"]) for e in world.logged("log_lost")] == [
        ("rounds.jsonl", left or 0)
    ]
    rounds_paid, epsilon = paid(world)
    assert rounds_paid == 10
    assert epsilon == site_epsilon(world.folder.experiment().privacy, 10, 10)


def test_without_the_checkpoints_count_almost_nothing_would_be_stated(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack, with the defence switched off."""
    for module in ("loop", "run"):
        count = lambda run: noised(run.folder.history())  # noqa: E731
        monkeypatch.setattr(f"server.round.{module}.noised_so_far", count)
    world = stopped_in(make_world(privacy=SITE_LEVEL, rounds=10, weights="uniform"), 10)
    (world.folder.path / "rounds.jsonl").unlink()
    world.run()
    rounds_paid, epsilon = paid(world)
    assert rounds_paid == 1
    assert epsilon < 4


def test_a_round_that_was_repeated_after_a_loss_is_paid_twice(make_world: Any) -> None:
    world = stopped_in(make_world(privacy=SITE_LEVEL, rounds=10, weights="uniform"), 5)
    (world.folder.path / "rounds.jsonl").unlink()

    def off(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 5:
            raise Power  # logged, and no checkpoint is written

    world.hooks.append(off)
    with pytest.raises(Power):
        world.run()
    world.hooks.clear()
    world.run()
    assert world.metrics()["rounds"] == 9  # the tenth has no budget left
    assert paid(world)[0] == 10


def test_the_newest_checkpoint_and_the_log_are_lost_together(make_world: Any) -> None:
    world = stopped_in(make_world(privacy=SITE_LEVEL, rounds=10, weights="uniform"), 10)
    (world.folder.checkpoints()[-1] / "model.safetensors").unlink()
    (world.folder.path / "rounds.jsonl").unlink()
    world.run()
    assert paid(world)[0] == 10  # 9 that were done, and one: round 9 is done again


@pytest.mark.parametrize("left", [None, 2])
def test_an_audit_log_that_lost_its_end_says_so_for_ever(
    make_world: Any, command: Callable, left: int | None
) -> None:
    world = stopped_in(make_world(rounds=3), 3)
    log = world.folder.path / "audit.jsonl"
    lines = len(log.read_bytes().splitlines())
    assert command(main, "audit", world.folder.path).code == 0
    log.unlink() if left is None else cut(log, left)
    assert read_chain(log).torn == b""  # the chain alone shows nothing
    wanted = f"audit.jsonl is cut: {left or 0} of {lines} lines"
    ended = command(main, "audit", world.folder.path)
    assert (ended.code, ended.err.count("\n")) == (10, 1)
    assert wanted in ended.err
    assert wanted in command(main, "status", world.folder.path).out.replace("\n", " ")
    world.run()
    assert world.metrics()["status"] == "finished"
    assert [e["outcome"] for e in read_chain(log).entries].count(LOST) == 1
    assert wanted in command(main, "audit", world.folder.path).err


def test_the_end_of_a_finished_run_is_not_cut_off(make_world: Any, command: Callable) -> None:
    world = make_world(rounds=2).run()
    for name in ("audit.jsonl", "rounds.jsonl"):
        log = world.folder.path / name
        whole = log.read_bytes()
        lines = len(whole.splitlines())
        cut(log, lines - 1)
        ended = command(main, "audit", world.folder.path)
        assert f"{name} is cut: {lines - 1} of {lines} lines" in ended.err
        log.write_bytes(whole)
        assert command(main, "audit", world.folder.path).code == 0


def test_another_audit_log_is_refused(make_world: Any, command: Callable) -> None:
    """One that is whole in itself, and longer."""
    world = stopped_in(make_world(rounds=3), 3)
    other = make_world(rounds=3, out="other").run()
    log = world.folder.path / "audit.jsonl"
    log.write_bytes((other.folder.path / "audit.jsonl").read_bytes())
    assert "audit.jsonl is changed" in command(main, "audit", world.folder.path).err
    with pytest.raises(IntegrityError, match="is not the log that the checkpoint knows"):
        world.run()
    log.unlink()
    assert world.run().metrics()["status"] == "finished"


def test_a_changed_event_is_left_out_and_noted(make_world: Any, command: Callable) -> None:
    world = stopped_in(make_world(rounds=3), 3)
    log = world.folder.path / "rounds.jsonl"
    events = len(records(world.folder))
    data = bytearray(log.read_bytes())
    data[data.index(b'"event": "round"') + 12] ^= 1
    log.write_bytes(data)
    assert len(records(world.folder)) == events - 1
    assert "rounds.jsonl is changed" in command(main, "audit", world.folder.path).err
    assert world.run().metrics()["status"] == "finished"
    assert [e["log"] for e in world.logged("log_lost")] == ["rounds.jsonl"]


def test_status_says_that_the_log_is_gone(make_world: Any, command: Callable) -> None:
    world = stopped_in(make_world(rounds=3), 3)
    log = world.folder.path / "rounds.jsonl"
    lines = len(log.read_bytes().splitlines())
    for data in (None, b"\xff\xfe\n", b"[1, 2]\n", b"null\n{}\n", b"[" * 100_000):
        log.unlink() if data is None else log.write_bytes(data)
        ended = command(main, "status", world.folder.path)
        assert (ended.code, ended.err.count("\n")) == (10, 1)
        assert "the last checkpoint is of round 2" in ended.err
    assert f"of {lines - 1} lines" in ended.err  # the last came after the checkpoint


def test_a_log_ahead_of_the_checkpoint_is_no_loss(make_world: Any, command: Callable) -> None:
    """A crash between the two leaves it so."""
    world = stopped_in(make_world(rounds=3), 3)
    log = world.folder.path / "rounds.jsonl"
    with open(log, "a") as handle:
        handle.write('{"time": 1, "event')
    assert command(main, "audit", world.folder.path).code == 0
    world.run()
    assert not world.logged("log_lost")
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "finished"
