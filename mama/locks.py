"""Locks between processes, each on a file; the system lets go of one whose process dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mama.errors import ServiceError
from mama.files import private_folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock, after waiting for whoever holds it."""
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def at_work_in(folder: Path, name: str = "lock") -> Iterator[None]:
    """Keep a folder to this process; one that was made for it and stayed empty goes again.

    Raises:
        ServiceError: another process is at work in it.
    """
    made = not folder.exists()
    private_folder(folder)
    with locked_if_free(folder / name) as free:
        if not free:
            raise ServiceError(
                "another process is at work in it",
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
    """Hold the lock if nobody else does; yields whether this process holds it now."""
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
