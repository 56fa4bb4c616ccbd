"""Heads of a run's logs: their length and digest when a checkpoint was written.

A log may be ahead of the checkpoint, as after a crash; one that is behind it, or begins otherwise,
has lost lines.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from mama.errors import IntegrityError
from mama.system.journal import Entry
from server.run.audit import LOST, Audit
from server.run.events import Event, LogLost

EVENTS, AUDIT = "rounds.jsonl", "audit.jsonl"


class Head(BaseModel):
    """Whole lines of a log: their number, bytes, and SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: int = 0
    bytes: int = 0
    sha256: str = hashlib.sha256(b"").hexdigest()


class Loss(NamedTuple):
    """Loss of log lines: `left` of the `lines` that a checkpoint recorded.

    If lines were changed, `left` is not below `lines`.
    """

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
    """Return the current heads of both logs in a run's folder."""
    return {name: _head(_whole(folder / name)) for name in (EVENTS, AUDIT)}


def losses(folder: Path, known: Mapping[str, Head]) -> list[Loss]:
    """Return the logs of a run's folder that lack or change lines recorded by a checkpoint."""
    found = []
    for name, head in sorted(known.items()):
        data = _whole(folder / name)
        if _head(data[: head.bytes]) != head:
            found.append(Loss(name, head.lines, data.count(b"\n")))
    return found


def note_losses(folder: Path, known: Mapping[str, Head], audit: Audit) -> list[Loss]:
    """Record the losses of the logs in the audit log, and return them.

    The run goes on with the remaining lines.

    Raises:
        IntegrityError: the audit log was changed or replaced, which a person must examine.
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
    return found


def noted(entries: Iterable[Entry], events: Iterable[Event]) -> list[Loss]:
    """Return the losses that earlier starts recorded in the audit log and the events."""
    of_audit = [Loss(AUDIT, e["lines"], e["left"]) for e in entries if e.get("outcome") == LOST]
    lost = [event for event in events if isinstance(event, LogLost) and event.log == EVENTS]
    return [*of_audit, *(Loss(event.log, event.lines, event.left) for event in lost)]


def _whole(path: Path) -> bytes:
    """Return a log without a last line torn by a crash; empty without a log."""
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def _head(data: bytes) -> Head:
    return Head(lines=data.count(b"\n"), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
