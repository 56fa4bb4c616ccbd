"""Heads of a run's logs: their length and digest when a checkpoint was written.

A log may be ahead of the checkpoint, as after a crash; one that is behind it, or begins otherwise, has lost lines.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from mama.chain import Entry
from mama.errors import IntegrityError
from server.audit import LOST, Audit

EVENTS, AUDIT = "rounds.jsonl", "audit.jsonl"


class Head(BaseModel):
    """The whole lines of a log: their number, their bytes, and the SHA-256 of all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: int = 0
    bytes: int = 0
    sha256: str = hashlib.sha256(b"").hexdigest()


class Loss(NamedTuple):
    """A log that lacks lines: of those that a checkpoint knows, so many are left; as many or more if they differ."""

    log: str
    lines: int
    left: int

    @property
    def is_cut(self) -> bool:
        """True where lines are missing; otherwise some were changed."""
        return self.left < self.lines

    def __str__(self) -> str:
        if self.is_cut:
            return f"{self.log} is cut: {self.left} of {self.lines} lines"
        return (
            f"{self.log} is changed: its first {self.lines} lines are not those that were written"
        )


def heads(folder: Path) -> dict[str, Head]:
    """The heads of both logs in a run's folder as they are now."""
    return {name: _head(_whole(folder / name)) for name in (EVENTS, AUDIT)}


def losses(folder: Path, known: Mapping[str, Head]) -> list[Loss]:
    """The logs of a run's folder that lack lines of those that a checkpoint knows."""
    found = []
    for name, head in sorted(known.items()):
        data = _whole(folder / name)
        if _head(data[: head.bytes]) != head:
            found.append(Loss(name, head.lines, data.count(b"\n")))
    return found


def note_losses(
    folder: Path, known: Mapping[str, Head], audit: Audit, tell: Callable[..., None]
) -> bool:
    """Note in both logs what they have lost, so that a run goes on with what is left; returns whether anything is.

    Args:
        tell: appends an event, of a kind and with values, to rounds.jsonl.

    Raises:
        IntegrityError: the audit log is another, which a person must look at.
    """
    found = losses(folder, known)
    for loss in found:
        if loss.log == AUDIT and not loss.is_cut:
            raise IntegrityError(
                "is not the log that the checkpoint knows",
                where=str(folder / AUDIT),
                fix="Compare with a copy; to go on with a new log, move this one away",
            )
    for loss in found:
        if loss.log == AUDIT:
            audit.lines_lost(loss.lines, loss.left)
        tell("log_lost", log=loss.log, lines=loss.lines, left=loss.left)
    return bool(found)


def noted(entries: Iterable[Entry], events: Iterable[Entry]) -> list[Loss]:
    """The losses that earlier starts have noted in the audit log and in the events."""
    of_audit = [e | {"log": AUDIT} for e in entries if e.get("outcome") == LOST]
    of_events = [e for e in events if e["event"] == "log_lost" and e["log"] == EVENTS]
    return [Loss(e["log"], e["lines"], e["left"]) for e in (*of_audit, *of_events)]


def _whole(path: Path) -> bytes:
    """A log without a last line that a crash tore; nothing where there is no log."""
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def _head(data: bytes) -> Head:
    return Head(lines=data.count(b"\n"), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
