"""File locks between processes; the system releases them when their process dies."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mama.errors import ServiceError
from mama.system.files import private_folder

TRIES, PAUSE_S = 5, 0.2


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock, after waiting until it is free."""
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def at_work_in(folder: Path, name: str = "lock") -> Iterator[None]:
    """Reserve a folder for this process; remove it again if it was new and is still empty.

    Raises:
        ServiceError: another process is using it.
    """
    made = not folder.exists()
    private_folder(folder)
    with locked_if_free(folder / name) as free:
        if not free:
            raise ServiceError(
                "another process is using it",
                where=str(folder),
                fix="Wait until it has ended, or give another folder",
            )
        try:
            yield
        finally:
            if made and [path.name for path in folder.iterdir()] == [name]:
                (folder / name).unlink()
                folder.rmdir()


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock if it is free; yield True if this process holds it."""
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def only_service(path: Path, where: str) -> Iterator[None]:
    """Hold the lock of a service while it runs.

    Raises:
        ServiceError: the service of `where`, a site or federation, is already running.
    """
    # More than once, because a command that looks whether it runs holds the lock for an instant.
    for _ in range(TRIES):
        with locked_if_free(path) as free:
            if free:
                yield
                return
        time.sleep(PAUSE_S)
    raise ServiceError(
        "is already running",
        where=where,
        fix="The command `status` shows its state; stop that service first",
    )
