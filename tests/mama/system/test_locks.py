"""A lock is held by one process, and free again when that one is killed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mama.errors import ServiceError
from mama.system.locks import at_work_in, locked, locked_if_free, only_service


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


def test_a_second_service_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mama.system.locks.PAUSE_S", 0.01)
    path = tmp_path / "service.lock"
    with only_service(path, "site alder"):
        with pytest.raises(ServiceError) as error, only_service(path, "site alder"):
            pass
        assert str(error.value).startswith("site alder: is already running. ")
    with only_service(path, "site alder"):
        pass


def test_a_service_starts_beside_a_command_that_looks_at_its_lock(tmp_path: Path) -> None:
    path, begun = tmp_path / "service.lock", threading.Event()

    def look() -> None:
        with locked(path):
            begun.set()
            time.sleep(0.1)

    looker = threading.Thread(target=look)
    looker.start()
    begun.wait()
    with only_service(path, "site alder"):
        looker.join()
