"""Logs whose lines are only appended, each sealing all lines before it.

A line is a JSON object with its time (UTC), `previous` (the hash of the line before, zeros in the first) and `hash`,
the SHA-256 of all the others. Whoever changes, removes or adds a line breaks the chain, unless they rewrite every line
that follows or cut off the end; a head that is kept elsewhere shows that too.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from mama.errors import IntegrityError
from mama.files import private_folder

START = "0" * 64

Entry = dict[str, Any]


class Trail(NamedTuple):
    """A log that was found unbroken. `torn` are the bytes after its last whole line, which a crash leaves."""

    entries: list[Entry]
    head: str
    torn: bytes

    def head_after(self, lines: int) -> str | None:
        """The head when the log had so many lines; None if it has fewer now."""
        if lines > len(self.entries):
            return None
        return self.head if lines == len(self.entries) else str(self.entries[lines]["previous"])


class Chain:
    """Appends to a chained log; a line that a crash tore is removed, and its removal noted.

    Args:
        about: values of every line that is appended.

    Raises:
        IntegrityError: the log was changed since it was written.
    """

    def __init__(self, path: Path, about: Entry | None = None):
        self.path, self._about = path, about or {}
        trail = read_chain(path)
        self.head, self.lines = trail.head, len(trail.entries)
        if trail.torn:
            with open(path, "rb+") as log:
                log.truncate(path.stat().st_size - len(trail.torn))
            self.append({"outcome": "torn line removed", **content_of(trail.torn)})

    @classmethod
    def resumed(cls, path: Path, head: str, lines: int) -> Self:
        """A log that is known to be whole and to end so; it is not read."""
        made = cls.__new__(cls)
        made.path, made.head, made.lines, made._about = path, head, lines, {}
        return made

    def append(self, values: Entry) -> None:
        """Add a line and wait until it is on the disk.

        Raises:
            OSError: it cannot be written; the log is as it was.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, **self._about, **values, "previous": self.head}
        claimed = _hash(entry)
        private_folder(self.path.parent)
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab", opener=_for_owner) as log:
                log.write(_line({**entry, "hash": claimed}) + b"\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError:  # the disk is full: no half line stays behind
            if self.path.exists():
                os.truncate(self.path, size)
            raise
        self.head, self.lines = claimed, self.lines + 1


def read_chain(path: Path) -> Trail:
    """Read a log and check every line of it; one that does not exist is empty.

    Raises:
        IntegrityError: it names the first line that is not as it was written.
    """
    data = path.read_bytes() if path.exists() else b""
    *lines, torn = data.split(b"\n")
    entries: list[Entry] = []
    head = START
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            same = _line(entry) == line  # not so where a key is there twice
            claimed = entry.pop("hash")
            whole = same and entry["previous"] == head and _hash(entry) == claimed
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise IntegrityError(
                f"line {number} is not as it was written, or lines before it are missing",
                where=str(path),
                fix="Compare with a copy; to go on with a new log, move this one away",
            )
        head = claimed
        entries.append(entry)
    return Trail(entries, head, torn)


def content_of(data: bytes) -> Entry:
    """The size and SHA-256 by which a log names tensors."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def last_tensors(site: str, entry: Entry) -> str:
    """A line on the last tensors of a site: equal at the site and at the coordinator, so that people can compare."""
    return (
        f"{site}: last tensors of {entry['task']}, {entry['bytes']} bytes, sha256 {entry['sha256']}"
    )


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(entry: Entry) -> bytes:
    return json.dumps(entry).encode()


def _hash(entry: Entry) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
