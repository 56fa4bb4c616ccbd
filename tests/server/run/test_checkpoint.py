"""Checkpoints: whole or none, every bit checked; an older one replaces a damaged one."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mama.errors import ModelError, StorageError
from mama.exchange.codecs.coding import encode
from mama.system.files import write_bytes
from server.round.loop import OPTIMISER
from server.run.checkpoint import MODEL, STATE, read_checkpoint
from server.run.folder import RunFolder
from tests.server.faults import (
    BASE,
    Clock,
    FakeSites,
    FaultyGrid,
    assert_same,
    fine,
    initial,
    of,
    replayed,
    small_experiment,
)


def save(folder: RunFolder, number: int) -> None:
    state = folder.latest().state.model_copy(update={"round": number})
    files = {
        MODEL: lambda path: write_bytes(path, encode(initial())),
        OPTIMISER: lambda path: write_bytes(path, b"momentum"),
    }
    folder.save(state, files)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run", small_experiment(), initial(), BASE)
    for number in (1, 2):
        save(folder, number)
    return folder


def test_what_is_read_is_what_was_written(folder: RunFolder) -> None:
    latest = folder.latest()
    assert (latest.round, latest.base, latest.damaged) == (2, BASE, ())
    assert latest.shapes == {"bias": (5,), "weight": (3, 4)}
    for name, array in initial().items():
        np.testing.assert_array_equal(latest.arrays[name], array)
    latest.arrays["bias"] += 1  # a copy of one's own
    np.testing.assert_array_equal(latest.arrays["bias"], initial()["bias"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from([MODEL, OPTIMISER, STATE]), st.data())
def test_a_flipped_bit_anywhere_falls_back_to_the_one_before(
    folder: RunFolder, name: str, data: st.DataObject
) -> None:
    path = folder.checkpoints()[-1] / name
    whole = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    try:
        if name == STATE and _same_json(whole, bytes(flipped)):
            return
        latest = folder.latest()
        assert latest.round == 1
        assert [path.name for path in latest.damaged] == ["round-0002"]
    finally:
        path.write_bytes(whole)


def _same_json(first: bytes, second: bytes) -> bool:
    """A flipped bit can turn one white space into another."""
    try:
        return json.loads(first) == json.loads(second)
    except ValueError:
        return False


@pytest.mark.parametrize("name", [MODEL, OPTIMISER, STATE])
def test_truncated_or_missing_files_fall_back_too(folder: RunFolder, name: str) -> None:
    path = folder.checkpoints()[-1] / name
    path.write_bytes(path.read_bytes()[:-3])
    assert folder.latest().round == 1
    path.unlink()
    assert folder.latest().round == 1


def test_when_all_are_damaged_it_says_so(folder: RunFolder) -> None:
    for path in folder.checkpoints():
        (path / MODEL).write_bytes(b"")
    with pytest.raises(ModelError, match="every checkpoint is damaged") as error:
        folder.latest()
    assert "\n" not in str(error.value)


def test_a_crash_while_writing_leaves_the_one_before(folder: RunFolder) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    state = folder.latest().state.model_copy(update={"round": 3})
    with pytest.raises(KeyboardInterrupt):
        folder.save(state, {MODEL: fail})
    assert folder.latest().round == 2
    assert sorted(p.name for p in (folder.path / "checkpoints").iterdir()) == [
        "round-0001",
        "round-0002",
    ]


def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before_and_says_so(
    make_world,
) -> None:
    world = make_world(rounds=5)

    def crash(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 4 and len(world.logged("start")) == 1:
            raise KeyboardInterrupt

    world.hooks.append(crash)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    model = world.folder.checkpoints()[-1] / MODEL
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    world.run()
    assert [(e["checkpoint"], e["instead"]) for e in world.logged("damaged")] == [("round-0003", 2)]
    assert world.logged("start")[1]["round"] == 2
    assert_same(world.model, replayed(of(n) for n in range(1, 6)))
    read_checkpoint(world.folder.path / "checkpoints" / "round-0005")


def test_no_room_for_a_file_is_one_line_and_the_last_checkpoint_is_whole(tmp_path: Path) -> None:
    """The limit on file sizes is real, in a process of its own."""
    folder = RunFolder.create(tmp_path / "run", small_experiment(), initial(), BASE)
    child = os.fork()
    if not child:
        code = 1
        try:
            from server.round.run import FederatedRun
            from server.run.context import RunContext

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
            grid = FaultyGrid(FakeSites(), ("alder", "birch", "cedar"), Clock(), fine)
            try:
                FederatedRun(
                    grid, RunContext(folder, lambda event: None, expected=3, slots=1)
                ).run()
            except StorageError as error:
                code = (
                    0 if "\n" not in str(error) and "the disk or quota is full" in str(error) else 2
                )
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert folder.latest().damaged == ()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB, where we may mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.round.run import FederatedRun
    from server.run.context import RunContext

    experiment = small_experiment(rounds=40, keep_checkpoints=1000)
    folder = RunFolder.create(small_disk / "run", experiment, initial(), BASE)

    def run() -> None:
        grid = FaultyGrid(FakeSites(), ("alder", "birch", "cedar"), Clock(), fine)
        FederatedRun(grid, RunContext(folder, lambda event: None, expected=3, slots=10)).run()

    with pytest.raises(StorageError, match="the disk or quota is full") as error:
        run()
    assert "\n" not in str(error.value)
    latest = folder.latest()
    assert 0 < latest.round < 40
    assert latest.damaged == ()
    assert_same(latest.arrays, replayed(of(n) for n in range(1, latest.round + 1)))

    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    run()
    assert_same(folder.latest().arrays, replayed(of(n) for n in range(1, 41)), 1e-5)
