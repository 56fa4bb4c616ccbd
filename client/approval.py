"""A person's approval of an experiment, by its hash: a changed experiment has another hash and needs another one.

It is for a number of runs, one unless more are said, and may name a model that a run starts from and runs that are
joined at the model they have reached.
"""

import getpass
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from client.sitefile import SiteFile
from mama.config import Experiment
from mama.errors import ConfigError
from mama.files import write_text
from mama.sealed import read_if_whole, write_sealed

# A coordinator that sends many fills no disk.
MOST_WAITING = 20
LISTED = "`mama-site approve SITE` lists those that wait"


class Approvals:
    """The experiments approved at a site, and those that wait for it, as files named by hash."""

    def __init__(self, site: SiteFile):
        self.approved = site.state / "service" / "approved"
        self.waiting = site.state / "service" / "waiting"

    def has(self, digest: str) -> bool:
        """True if an experiment is approved; a damaged approval is none."""
        return bool(self._of(digest))

    def runs(self, digest: str) -> int:
        """The number of approved runs of an experiment; 1 where none is said."""
        return max(1, int(self._of(digest).get("runs", 1)))

    def models(self, digest: str) -> list[str]:
        """Checksums of models that the approval names."""
        return list(self._of(digest).get("models", []))

    def joined(self, digest: str) -> list[str]:
        """Runs whose model is taken as it is when this site comes to it."""
        return list(self._of(digest).get("joined", []))

    def _of(self, digest: str) -> dict:
        return read_if_whole(self.approved / digest)

    def note(self, experiment: Experiment) -> None:
        """Keep an experiment that waits for approval, so that a person can read it; of many the newest."""
        path = self.waiting / f"{experiment.hash()}.json"
        if path.exists():
            return
        write_text(path, experiment.canonical_json() + "\n")
        oldest_first = sorted(self.listed(), key=lambda waiting: waiting.stat().st_mtime_ns)
        for waiting in oldest_first[:-MOST_WAITING]:
            waiting.unlink(missing_ok=True)

    def listed(self) -> list[Path]:
        """The experiments that wait."""
        return sorted(self.waiting.glob("*.json"))

    def given(self) -> list[str]:
        """A line for each approved experiment: its hash, for how many runs, by whom and when it was last approved."""
        lines = []
        for path in sorted(self.approved.glob("*")):
            found = self._of(path.name)
            if found:
                by, at = found.get("by", "somebody"), found.get("at", "an unknown time")
                lines.append(
                    f"{path.name}\n  approved for {_runs(self.runs(path.name))}, by {by} at {at}"
                )
        return lines

    def whole(self, prefix: str) -> str:
        """The hash of the waiting or approved experiment that begins so; `prefix` itself where it is a whole hash.

        Raises:
            ConfigError: none begins so, several do, or it is too short to be meant.
        """
        if not re.fullmatch(r"[0-9a-f]{8,63}", prefix):
            return prefix
        names = {path.stem for path in self.listed()}
        names |= {path.name for path in self.approved.glob("*")}
        found = sorted(name for name in names if name.startswith(prefix))
        if len(found) != 1:
            what = "several experiments begin so" if found else "no experiment here begins so"
            raise ConfigError(what, where=prefix, fix=LISTED)
        return found[0]

    def approve(self, digest: str, runs: int = 1, model: str = "", join: str = "") -> bool:
        """Approve an experiment, or add to its approval; returns whether it was waiting.

        Args:
            runs: how many runs in all.
            model: checksum of a first model other than the one that the site builds.
            join: a run whose model is taken as it is when this site comes to it.

        Raises:
            ConfigError: that is no hash of an experiment, or no checksum of a model.
        """
        _require_hash(digest)
        if model and not re.fullmatch(r"[0-9a-f]{64}", model):
            raise ConfigError("is no model's checksum (64 digits)", where=model)
        before = self._of(digest)
        values = {
            "by": _person(),
            "at": datetime.now(UTC).isoformat(" ", "minutes"),
            "runs": max(runs, int(before.get("runs", 1))),
            "models": sorted({*before.get("models", []), *([model] if model else [])}),
            "joined": sorted({*before.get("joined", []), *([join] if join else [])}),
        }
        write_sealed(self.approved / digest, values)
        waiting = self.waiting / f"{digest}.json"
        known = waiting.exists()
        waiting.unlink(missing_ok=True)
        return known

    def withdraw(self, digest: str) -> str:
        """Take an approval back, or strike an experiment from those that wait; returns what was done.

        Raises:
            ConfigError: that is no hash of an experiment, or of one that is neither approved nor waits.
        """
        _require_hash(digest)
        approved, waiting = self.approved / digest, self.waiting / f"{digest}.json"
        if approved.exists():
            approved.unlink()
            return "the approval is taken back; it counts from the next task on"
        if waiting.exists():
            waiting.unlink()
            return "it waits no more; a task that asks for it lists it again"
        raise ConfigError("is not approved and does not wait", where=digest, fix=LISTED)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _person() -> str:
    """The name of the user at the machine; in a container there may be none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _require_hash(digest: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ConfigError("is no experiment's hash (64 digits)", where=digest, fix=LISTED)
