"""Atomic file writes: temporary file, fsync, rename; private whatever the umask. Checksums."""

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mama.errors import StorageError


def private_folder(path: Path) -> Path:
    """Create a folder and its missing parents for their owner only; existing ones do not change."""
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(exist_ok=True)  # raises if it is a file
    return path


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn a full disk, quota or file size limit below `path` into a one-line error.

    Raises:
        StorageError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StorageError(
            "the disk or quota is full",
            where=str(path),
            fix="Free space or raise the quota, then start again: earlier data is intact",
        ) from None


@contextmanager
def replacing(path: Path, *, private: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an error.

    Only its owner can read it, unless `private` is false, for public keys and certificates.

    Raises:
        OSError: the file cannot be written; the error names `path`, not the temporary file.
    """
    private_folder(path.parent)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        if not private:
            os.fchmod(descriptor, 0o644)
        os.close(descriptor)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove the temporary files of writes to `path` that were killed; nobody may be writing it."""
    for left in path.parent.glob(f".{path.name}.????????"):
        left.unlink(missing_ok=True)


def target_of(temporary: Path) -> Path | None:
    """Return the path whose unfinished write has this name; None for any other name."""
    found = re.fullmatch(r"\.(.+)\.[^.]{8}", temporary.name)
    return temporary.with_name(found[1]) if found else None


def write_bytes(path: Path, data: bytes, *, private: bool = True) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path, private=private) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically as indented JSON; NaN and infinity are rejected."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read piece by piece."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that new file names survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
