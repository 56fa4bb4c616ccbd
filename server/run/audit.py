"""Audit log: sender, content and time of each answer in a hash chain (mama/system/journal.py).

A line of audit.jsonl has run, round, site, task, outcome, and bytes and sha256 of the received
tensors (in secure aggregation: of a site's message in a wave). Each checkpoint keeps the length of
the log and its digest, which also reveal a truncation (server/run/log_heads.py); the last hash,
recorded elsewhere, reveals it even if checkpoints were rewritten. Every site keeps the same sizes
and hashes of what it sent (client/privacy/sent.py).
"""

from collections.abc import Iterable
from pathlib import Path

from mama.system.journal import Chain, Entry, last_tensors

LOST = "lines lost"


class Audit:
    """Appends to one run's audit log.

    Raises:
        IntegrityError: the log was changed since it was written.
    """

    def __init__(self, path: Path, run: str):
        self._chain = Chain(path, {"run": run})

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self._chain.head

    def record(self, site: str, number: int, task: str, content: Entry, outcome: str) -> None:
        """Record what a site sent (see `content_of`), its task and round, and the outcome."""
        what = {"round": number, "site": site, "task": task, "outcome": outcome}
        self._chain.append(what | content)

    def lines_lost(self, lines: int, left: int) -> None:
        """Record that `left` of the first `lines` lines remain; the rest are lost for good."""
        self._chain.append({"outcome": LOST, "lines": lines, "left": left})


def last_of_sites(entries: Iterable[Entry]) -> list[str]:
    """Return a line for each site on the last tensors from it, as `mama-site sent` prints them."""
    last = {entry["site"]: entry for entry in entries if "site" in entry and entry["bytes"]}
    return [last_tensors(site, entry) for site, entry in sorted(last.items())]
