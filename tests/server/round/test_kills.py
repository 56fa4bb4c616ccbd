"""The ServerApp dies by a real kill -9 in each phase, and the run goes on to the same bits."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import server.round.collect
import server.run.checkpoint
from server.aggregation.optimiser import ServerOptimiser
from server.round.run import FederatedRun
from server.run.context import RunContext
from server.run.folder import RunFolder
from tests.events import records
from tests.server.faults import (
    BASE,
    Clock,
    FakeSites,
    FaultyGrid,
    fine,
    initial,
    small_experiment,
)

FEDERATION = {
    "rounds": 4,
    "sites_per_round": 0.5,
    "quorum": 2,
    "evaluate_every": 1,
    "server_optimiser": {"kind": "adam", "lr": 0.1},
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number: int, original: Callable) -> Callable:
    """The function itself, but at its `number`-th call the process dies instead."""
    calls = [0]

    def call(*arguments, **named):
        calls[0] += 1
        if calls[0] == number:
            die()
        return original(*arguments, **named)

    return call


def patch(target: object, name: str, number: int) -> None:
    setattr(target, name, at_call(number, getattr(target, name)))


# Round 3 of four: 4 sites describe themselves, 3 a round train and 4 evaluate. A checkpoint renames
# three files and itself; the first two evaluations are each the best so far, which is noted in a
# file.
PHASES: dict[str, Callable[[], None]] = {
    "push": lambda: patch(FaultyGrid, "push_messages", 4 + 2 * 6 + 2),
    "between answers": lambda: patch(FaultyGrid, "pull_messages", 4 + 2 * 6 + 2),
    "fold": lambda: patch(server.round.collect.UpdateCollector, "take", 2 * 3 + 2),
    "after the fold": lambda: patch(server.round.collect.UpdateCollector, "result", 3),
    "step": lambda: patch(ServerOptimiser, "step", 3),
    "checkpoint, after its first file": lambda: patch(ServerOptimiser, "save", 3),
    "checkpoint, before its state": lambda: patch(server.run.checkpoint, "write_sealed", 3),
    "checkpoint, before its name": lambda: patch(server.run.checkpoint.os, "replace", 14),
    "checkpoint, after its name": lambda: patch(server.run.checkpoint, "sync_folder", 3),
    "evaluate": lambda: patch(FaultyGrid, "push_messages", 4 + 3 * 6 - 1),
    "last evaluation": lambda: patch(FaultyGrid, "push_messages", 4 + 4 * 6 - 1),
}


def run(folder: RunFolder) -> None:
    grid = FaultyGrid(FakeSites(), ("alder", "birch", "cedar", "dogwood"), Clock(), fine)
    FederatedRun(grid, RunContext(folder, lambda event: None, expected=4, slots=1)).run()


def run_and_die(folder: RunFolder, sabotage: Callable[[], None]) -> int:
    """Run in a child; returns the signal that ended it."""
    child = os.fork()
    if not child:
        try:
            sabotage()
            run(folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nothing happened to."""
    folder = RunFolder.create(
        tmp_path_factory.mktemp("whole") / "run", small_experiment(**FEDERATION), initial(), BASE
    )
    run(folder)
    return folder


@pytest.mark.parametrize("phase", PHASES)
def test_killed_and_run_again_a_run_ends_with_the_same_bits(
    phase: str, whole: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder.create(tmp_path / "run", small_experiment(**FEDERATION), initial(), BASE)
    assert run_and_die(folder, PHASES[phase]) == -signal.SIGKILL
    before = folder.latest()
    assert before.round in (2, 3, 4)
    assert before.damaged == ()

    run(folder)
    for name, array in whole.latest().arrays.items():
        np.testing.assert_array_equal(folder.latest().arrays[name], array)
    # The log of a run that died says more.
    state, wanted = (
        run.latest().state.model_dump(exclude={"run", "heads"}) for run in (folder, whole)
    )
    assert state == wanted
    assert folder.best() == whole.best()
    evaluated = [e["round"] for e in records(folder) if e["event"] == "evaluation"]
    assert sorted(set(evaluated)) == [1, 2, 3, 4]
    leftovers = [path.name for path in (folder.path / "checkpoints").iterdir()]
    assert all(not name.startswith(".") for name in leftovers)
