"""The hospital's record of everything that it sent, a hash chain (mama/system/journal.py).

A line is written before its answer is sent; if an answer cannot be recorded, an error code is sent
instead. The record lies in the folder of the privacy ledger, so that removing a run's state removes
none of its lines. `sent.json` keeps its length, which reveals truncation, and its modification
time: only a record that changed since is verified again before the next answer.
"""

import hashlib

from client.site.config import SiteFile
from client.site.run_names import run_named
from mama.errors import IntegrityError
from mama.exchange.protocol import Answer
from mama.system.files import private_folder
from mama.system.journal import START, Chain, Entry, Trail, content_of, read_chain
from mama.system.locks import locked
from mama.system.sealed import read_sealed, write_sealed

FIX = "Restore the newest copy of the site's privacy folder; only error codes are sent until then"

NOTHING_SENT = "nothing was sent for a run of this name"
LISTED = "`mama-site sent SITE` lists all answers with their runs"


class SentRecord:
    """One site's record of sent answers over all runs."""

    def __init__(self, site: SiteFile):
        self._path = site.privacy / "sent.jsonl"
        self._known = site.privacy / "sent.json"

    def note(self, kind: str, answer: Answer, header: str, payload: bytes) -> None:
        """Record an answer before it is sent.

        Args:
            kind: kind of the answered task.
            answer: the answer.
            header: the answer's JSON as it will be sent.
            payload: the tensors that are sent with it.

        Raises:
            IntegrityError: the record is damaged or truncated.
            OSError: the record cannot be written.
        """
        private_folder(self._path.parent)
        with locked(self._path.with_suffix(".lock")):
            log = self._open()
            log.append(
                {
                    "run": answer.run,
                    "round": answer.round,
                    "task": answer.task,
                    "kind": kind,
                    "status": str(answer.status),
                    **content_of(payload),
                    "header_bytes": len(header.encode()),
                    "header_sha256": hashlib.sha256(header.encode()).hexdigest(),
                    "figures": figures(answer),
                }
            )
            known = {"lines": log.lines, "head": log.head, "as_left": self._stat()}
            write_sealed(self._known, known)

    def _open(self) -> Chain:
        known = read_sealed(self._known, FIX)
        if known and known["as_left"] == self._stat():
            return Chain.resumed(self._path, known["head"], known["lines"])
        self.read()
        return Chain(self._path)

    def _stat(self) -> list[int]:
        """Return the file's size and modification time (nanoseconds); empty if it is missing."""
        if not self._path.exists():
            return []
        found = self._path.stat()
        return [found.st_size, found.st_mtime_ns]

    def read(self) -> Trail:
        """Return all lines after verifying them.

        Raises:
            IntegrityError: a line was changed, or lines are missing.
        """
        trail = read_chain(self._path)
        known = read_sealed(self._known, FIX) or {"lines": 0, "head": START}
        if trail.head_after(known["lines"]) != known["head"]:
            raise IntegrityError(
                f"is cut: it has {len(trail.entries)} of {known['lines']} lines",
                where=str(self._path),
                fix=FIX,
            )
        return trail


def answers_of(trail: Trail, run: str | None = None) -> list[Entry]:
    """Return the lines of answers in a record.

    Args:
        trail: the record.
        run: name of a run or a prefix of it; None selects all runs.

    Raises:
        ConfigError: nothing was sent for this run, or several runs match.
    """
    sent = [entry for entry in trail.entries if "run" in entry]
    if run is None:
        return sent
    named = run_named(run, {e["run"] for e in sent}, missing=NOTHING_SENT, fix=LISTED)
    return [entry for entry in sent if entry["run"] == named]


def figures(answer: Answer) -> list[str]:
    """Return the names of an answer's figures, such as `terms.loss` or `zero_shot.density`."""
    names: list[str] = []
    for part in (answer.description, answer.rehearsal):
        names += part.model_dump() if part else []
    if answer.training:
        reported = answer.training.model_dump(exclude_none=True)
        names += [name for name in reported if name != "terms"]
        names += [f"terms.{term}" for term in answer.training.terms]
    if answer.evaluation:
        for method, labels in answer.evaluation.counts.items():
            names += [f"{method}.{label}" for label in labels]
    if answer.statistics:
        names += ["patients", "studies", *answer.statistics.tables]
    names += [name for name in ("final", "holds") if getattr(answer, name)]
    return names
