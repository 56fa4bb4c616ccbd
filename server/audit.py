"""The audit log: who sent what when. Lines are only appended, and each seals all lines before it.

A line of audit.jsonl is a JSON object: time (UTC), run, round, site, task, outcome, bytes and sha256 of the tensors
that came (in secure aggregation: of what a site said in a wave), `previous` (the hash of the line before, zeros in the
first) and `hash`, the SHA-256 of all of these. Whoever changes, removes or adds a line breaks the chain, unless they
rewrite every line that follows or cut off the end. Each checkpoint keeps how long the log was and its digest, which
show that too (server/heads.py); the last hash, noted elsewhere, shows it where the checkpoints were rewritten as well.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mama.errors import IntegrityError

START = "0" * 64
LOST = "lines lost"

Entry = dict[str, Any]


class Trail(NamedTuple):
    """An audit log that was found unbroken. `torn` are the bytes after its last whole line, which a crash leaves."""

    entries: list[Entry]
    head: str
    torn: bytes


class Audit:
    """Appends to one run's audit log.

    Raises:
        IntegrityError: the log was changed since it was written.
    """

    def __init__(self, path: Path, run: str):
        self.path, self.run = path, run
        trail = read_audit(path)
        self.head = trail.head
        if trail.torn:
            with open(path, "rb+") as log:
                log.truncate(path.stat().st_size - len(trail.torn))
            self._append({"outcome": "torn line removed", **content_of(trail.torn)})

    def record(self, site: str, number: int, task: str, content: Entry, outcome: str) -> None:
        """Note what a site sent for a task (`content_of` it), in which round, and what became of it."""
        what = {"round": number, "site": site, "task": task, "outcome": outcome}
        self._append(what | content)

    def lines_lost(self, lines: int, left: int) -> None:
        """Note that of the first `lines` lines so many are left: the log lacks the rest for good."""
        self._append({"outcome": LOST, "lines": lines, "left": left})

    def _append(self, values: Entry) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "run": self.run, **values, "previous": self.head}
        claimed = _hash(entry)
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab") as log:
                log.write(_line({**entry, "hash": claimed}) + b"\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError:  # the disk is full: no half line stays behind
            os.truncate(self.path, size)
            raise
        self.head = claimed


def read_audit(path: Path) -> Trail:
    """Read an audit log and check every line of it; one that does not exist is empty.

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
        except (ValueError, KeyError, TypeError, AttributeError):
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
    """What the log says of tensors: their size and SHA-256."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _line(entry: Entry) -> bytes:
    return json.dumps(entry).encode()


def _hash(entry: Entry) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
