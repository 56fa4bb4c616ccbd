"""JSON files with a checksum: an object with the SHA-256 of its other values under `sha256`.

Any program may read them as plain JSON; only this project's programs write them. A file of many
records has one line per record, so that each can be read alone:

    {"head":{...},"records":[
    {...},
    {...}
    ],"sha256":"..."}

Its checksum is that of all bytes before the checksum.
"""

import hashlib
import json
import logging
import os
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mama.errors import IntegrityError
from mama.system.files import replacing, write_bytes

logger = logging.getLogger("fedmama.files")
SEAL = "sha256"
_HEAD, _RECORDS, _SEALED, _END = b'{"head":', b',"records":[\n', b'],"sha256":"', b'"}\n'
_HEX = 64  # characters of a checksum
_CHUNK = 1 << 20  # bytes

Values = dict[str, Any]


def write_sealed(path: Path, values: Values) -> None:
    """Write an object to `path` atomically; only its owner can read it.

    Raises:
        OSError: it cannot be written.
        ValueError: a number is not finite.
    """
    assert SEAL not in values
    text = json.dumps(values | {SEAL: seal(values)}, indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def read_sealed(path: Path, fix: str = "") -> Values | None:
    """Read a file of `write_sealed`; return None if `path` does not exist.

    Args:
        path: the file.
        fix: advice for the error message of a damaged file.

    Raises:
        IntegrityError: the file is damaged, was edited by hand, or cannot be read.
    """
    try:
        values = opened(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IntegrityError(
            f"cannot be read ({type(error).__name__})", where=str(path), fix=fix
        ) from None
    if values is None:
        raise IntegrityError("is damaged", where=str(path), fix=fix)
    return values


def read_if_whole(path: Path) -> Values:
    """Read an optional file of `write_sealed`; empty if it is missing or damaged."""
    try:
        return read_sealed(path) or {}
    except IntegrityError as error:
        logger.warning("%s; it is treated as missing", error)
        return {}


def sealed_line(values: Values) -> bytes:
    """Return an object with its checksum as a line of a log."""
    values = json.loads(json.dumps(values))  # keys as they will be read, for the checksum
    return json.dumps(values | {SEAL: seal(values)}).encode() + b"\n"


def opened(data: bytes) -> Values | None:
    """Return the values of a sealed object's JSON; None if it was modified."""
    try:
        values = json.loads(data)
        claimed = values.pop(SEAL)
        return values if claimed == seal(values) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def seal(values: Values) -> str:
    """Return the SHA-256 of an object, independent of the order of its keys.

    Raises:
        TypeError: a value cannot be represented in JSON.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_records(path: Path, head: str, records: Iterable[str]) -> None:
    """Write a file of records to `path` atomically; only its owner can read it.

    Args:
        path: the file.
        head: JSON of what is read with the file, on one line.
        records: JSON of the records, on one line each; they are written as they come.

    Raises:
        OSError: it cannot be written.
    """
    digest = hashlib.sha256()
    with replacing(path) as temporary, temporary.open("wb") as handle:
        for part in _parts(head, records):
            handle.write(part)
            digest.update(part)
        handle.write(digest.hexdigest().encode() + _END)


def _parts(head: str, records: Iterable[str]) -> Iterator[bytes]:
    yield _HEAD + head.encode() + _RECORDS
    before = b""
    for record in records:
        yield before + record.encode()
        before = b",\n"
    yield b"\n" + _SEALED if before else _SEALED


class SealedRecords:
    """A file of `write_records`, verified as a whole when it is opened.

    Only `head` and the places of the records are kept in memory, and a record is read when it is
    asked for, by any number of threads. A later file in the same place changes nothing here.

    Args:
        path: the file.

    Raises:
        IntegrityError: the file is damaged, or cannot be read.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._file)
            self._starts = self._verified()
        except OSError as error:
            raise IntegrityError(
                f"cannot be read ({type(error).__name__})", where=str(path)
            ) from None
        first = self._read(0, int(self._starts[0]))
        if not (first.startswith(_HEAD) and first.endswith(_RECORDS)):
            raise self._damaged()
        self.head = first.removeprefix(_HEAD).removesuffix(_RECORDS)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def record(self, number: int) -> bytes:
        """Return the JSON of a record, counted from 0.

        Raises:
            IntegrityError: the file was changed in place, or cannot be read.
        """
        start, end = self._starts[number : number + 2].tolist()
        return self._read(start, end).removesuffix(b"\n").removesuffix(b",")

    def _verified(self) -> np.ndarray:
        """Check the checksum; return the places of the lines after the first, (records + 1,)."""
        size = os.fstat(self._file).st_size
        body = size - _HEX - len(_END)
        digest, starts, place = hashlib.sha256(), [], 0
        while place < body:
            chunk = self._read(place, min(place + _CHUNK, body))
            digest.update(chunk)
            found = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
            starts.append(found + (place + 1))
            place += len(chunk)
        lines = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        if (
            not len(lines)
            or self._read(int(lines[-1]), body) != _SEALED
            or self._read(body, size) != digest.hexdigest().encode() + _END
        ):
            raise self._damaged()
        return lines

    def _read(self, start: int, end: int) -> bytes:
        try:
            data = os.pread(self._file, end - start, start)
        except OSError as error:
            raise IntegrityError(
                f"cannot be read ({type(error).__name__})", where=str(self._path)
            ) from None
        if len(data) != end - start:
            raise self._damaged()
        return data

    def _damaged(self) -> IntegrityError:
        return IntegrityError("is damaged", where=str(self._path))
