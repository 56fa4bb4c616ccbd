"""The hospital's own record of everything that it sent to the coordinator, in a chain of lines (mama/chain.py).

A line is written before its answer leaves; an answer that cannot be recorded is not sent, and an error code goes in its
place. The record lies beside the privacy ledger, so that removing a run's state removes no line of it. `sent.json`
keeps how long it was, which shows a cut end, and when it was written: only a record that was touched since is read
again before the next answer.
"""

import hashlib

from client.sitefile import SiteFile
from mama.chain import START, Chain, Entry, Trail, content_of, read_chain
from mama.errors import IntegrityError
from mama.exchange.protocol import Answer
from mama.files import private_folder
from mama.locks import locked
from mama.sealed import read_sealed, write_sealed

FIX = "Restore the newest copy of the site's privacy folder; nothing but error codes is sent until then"


class SentRecord:
    """One site's record, over all runs."""

    def __init__(self, site: SiteFile):
        self._path = site.privacy / "sent.jsonl"
        self._known = site.privacy / "sent.json"

    def note(self, kind: str, answer: Answer, header: str, payload: bytes) -> None:
        """Write down an answer that is about to leave.

        Args:
            kind: of the task that it answers.
            header: `answer` as it will be sent.
            payload: the tensors beside it.

        Raises:
            IntegrityError: the record is damaged or cut.
            OSError: it cannot be written.
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
        """The file's size and when it was last written (nanoseconds); empty where there is none."""
        if not self._path.exists():
            return []
        found = self._path.stat()
        return [found.st_size, found.st_mtime_ns]

    def read(self) -> Trail:
        """All lines, checked.

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
    """The lines of answers in a record, of one run or of all."""
    sent = [entry for entry in trail.entries if "run" in entry]
    return [entry for entry in sent if run is None or entry["run"] == run]


def figures(answer: Answer) -> list[str]:
    """The names of the figures in an answer's header, such as `studies`, `terms.loss` or `zero_shot.density`."""
    names: list[str] = []
    for part in (answer.description, answer.rehearsal):
        names += part.model_dump() if part else []
    if answer.training:
        said = answer.training.model_dump(exclude_none=True)
        names += [name for name in said if name != "terms"]
        names += [f"terms.{term}" for term in answer.training.terms]
    if answer.evaluation:
        for method, labels in answer.evaluation.counts.items():
            names += [f"{method}.{label}" for label in labels]
    names += [name for name in ("final", "holds") if getattr(answer, name)]
    return names
