"""Append-only logs in which each line authenticates all lines before it.

A line is a JSON object with its time (UTC), `previous` (the hash of the previous line, zeros in
the first) and `hash`, the SHA-256 of all other values. Changing, removing or inserting a line
breaks the chain, unless all following lines are rewritten or cut off; comparison with a head kept
elsewhere reveals that too.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from mama.errors import IntegrityError
from mama.system.files import private_folder

START = "0" * 64

Entry = dict[str, Any]


class Trail(NamedTuple):
    """Contents of an intact log; `torn` are bytes after its last complete line, left by a crash."""

    entries: list[Entry]
    head: str
    torn: bytes

    def head_after(self, lines: int) -> str | None:
        """Return the head when the log had this many lines; None if it has fewer now."""
        if lines > len(self.entries):
            return None
        return self.head if lines == len(self.entries) else str(self.entries[lines]["previous"])


class Chain:
    """Writer of a chained log; a line torn by a crash is removed, and its removal recorded.

    Args:
        path: the log file, created with its first line.
        about: values added to every appended line.

    Raises:
        IntegrityError: the log was modified after it was written.
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
        """Return a writer for a log with a known head and length, without reading it."""
        made = cls.__new__(cls)
        made.path, made.head, made.lines, made._about = path, head, lines, {}
        return made

    def append(self, values: Entry) -> None:
        """Append a line and flush it to disk.

        Raises:
            OSError: it cannot be written; the log is unchanged.
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
        except OSError:  # such as a full disk: remove the partial line
            if self.path.exists():
                os.truncate(self.path, size)
            raise
        self.head, self.lines = claimed, self.lines + 1


def read_chain(path: Path) -> Trail:
    """Read a log and verify every line; a missing file is an empty log.

    Raises:
        IntegrityError: names the first line that was modified.
    """
    data = path.read_bytes() if path.exists() else b""
    *lines, torn = data.split(b"\n")
    entries: list[Entry] = []
    head = START
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            same = _line(entry) == line  # differs if a key occurs twice
            claimed = entry.pop("hash")
            whole = same and entry["previous"] == head and _hash(entry) == claimed
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise IntegrityError(
                f"line {number} was modified, or lines before it are missing",
                where=str(path),
                fix="Compare it with a copy; to continue with a new log, move this one away",
            )
        head = claimed
        entries.append(entry)
    return Trail(entries, head, torn)


def content_of(data: bytes) -> Entry:
    """Return the size and SHA-256 by which a log identifies tensors."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def last_tensors(site: str, entry: Entry) -> str:
    """Format the last tensors of a site, identically at site and coordinator for comparison."""
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
