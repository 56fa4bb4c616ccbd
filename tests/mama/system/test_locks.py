"""A lock is held by one process, and free again when that one is killed."""

import os
import signal
from pathlib import Path

import pytest

from mama.errors import ServiceError
from mama.system.locks import at_work_in, locked, locked_if_free


def test_a_held_lock_is_not_free_until_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held, tell = os.pipe()
    child = os.fork()
    if not child:
        with locked(path):
            os.write(tell, b"x")
            signal.pause()
    os.read(held, 1)
    with locked_if_free(path) as free:
        assert not free
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with locked_if_free(path) as free:
        assert free
    with locked(path), locked_if_free(path) as free:
        assert not free


def test_a_second_process_is_refused_in_one_line(tmp_path: Path) -> None:
    with at_work_in(tmp_path / "out"):
        with pytest.raises(ServiceError) as error, at_work_in(tmp_path / "out"):
            pass
        assert str(error.value).startswith(f"{tmp_path / 'out'}: another process is using it")
    with at_work_in(tmp_path / "out"):
        pass
