"""The audit log: who sent what when, in a chain of lines (mama/chain.py).

A line of audit.jsonl has run, round, site, task, outcome, and bytes and sha256 of the tensors that came (in secure
aggregation: of what a site said in a wave). Each checkpoint keeps how long the log was and its digest, which show a cut
end too (server/heads.py); the last hash, noted elsewhere, shows it where the checkpoints were rewritten as well. Every
site keeps the same sizes and hashes of what it sent (client/sent.py).
"""

from collections.abc import Iterable
from pathlib import Path

from mama.chain import Chain, Entry, last_tensors

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
        """Note what a site sent for a task (`content_of` it), in which round, and what became of it."""
        what = {"round": number, "site": site, "task": task, "outcome": outcome}
        self._chain.append(what | content)

    def lines_lost(self, lines: int, left: int) -> None:
        """Note that of the first `lines` lines so many are left: the log lacks the rest for good."""
        self._chain.append({"outcome": LOST, "lines": lines, "left": left})


def last_of_sites(entries: Iterable[Entry]) -> list[str]:
    """A line for each site: the last tensors that came from it, as `mama-site sent` prints them at the site."""
    last = {entry["site"]: entry for entry in entries if "site" in entry and entry["bytes"]}
    return [last_tensors(site, entry) for site, entry in sorted(last.items())]
