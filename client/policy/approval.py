"""Manual approval and rejection of experiments, by hash: a changed experiment is approved anew.

An approval covers a number of runs (default 1). It may also name a first model, and runs to be
joined at their current model. A rejection overrides every approval, including `auto_approve`.
"""

import getpass
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from client.site.config import SiteFile
from mama.config import Experiment
from mama.errors import ConfigError
from mama.system.files import write_text
from mama.system.sealed import Values, read_if_whole, write_sealed

# Bounds the disk space that a coordinator's experiments take.
MOST_PENDING = 20
LISTED = "`mama-site approve SITE` lists the pending experiments"


class Approvals:
    """Approved, rejected and pending experiments of a site, as files named by hash."""

    def __init__(self, site: SiteFile):
        self.approved = site.state / "service" / "approved"
        self.rejected = site.state / "service" / "rejected"
        self.waiting = site.state / "service" / "waiting"

    def has(self, digest: str) -> bool:
        """Return True if an experiment is approved; a damaged approval does not count."""
        return bool(self._of(digest)) and not self.is_rejected(digest)

    def is_rejected(self, digest: str) -> bool:
        """Return True if an experiment was rejected; a damaged rejection counts."""
        return (self.rejected / digest).exists()

    def runs(self, digest: str) -> int:
        """Return the number of approved runs of an experiment; the default is 1."""
        return max(1, int(self._of(digest).get("runs", 1)))

    def models(self, digest: str) -> list[str]:
        """Return the checksums of the first models that the approval names."""
        return list(self._of(digest).get("models", []))

    def joined(self, digest: str) -> list[str]:
        """Return the runs whose current model is accepted without checking its lineage."""
        return list(self._of(digest).get("joined", []))

    def _of(self, digest: str) -> dict:
        return read_if_whole(self.approved / digest)

    def note(self, experiment: Experiment) -> None:
        """Store an experiment as pending approval; only the newest MOST_PENDING are kept."""
        path = self.waiting / f"{experiment.hash()}.json"
        if path.exists():
            return
        write_text(path, experiment.canonical_json() + "\n")
        oldest_first = sorted(self.listed(), key=lambda pending: pending.stat().st_mtime_ns)
        for pending in oldest_first[:-MOST_PENDING]:
            pending.unlink(missing_ok=True)

    def listed(self) -> list[Path]:
        """Return the files of the pending experiments."""
        return sorted(self.waiting.glob("*.json"))

    def given(self) -> list[str]:
        """Describe each approved or rejected experiment: hash, number of runs, person and time."""
        lines = []
        for path in sorted(self.approved.glob("*")):
            if self.has(path.name):
                what = f"approved for {_runs(self.runs(path.name))}"
                lines.append(f"{path.name}\n  {what}, {_signed(self._of(path.name))}")
        for path in sorted(self.rejected.glob("*")):
            lines.append(f"{path.name}\n  rejected, {_signed(read_if_whole(path))}")
        return lines

    def whole(self, prefix: str) -> str:
        """Return the full hash of the known experiment with this prefix (at least 8 digits).

        Any other text, such as a full hash, is returned unchanged.

        Raises:
            ConfigError: no known hash, or more than one, has this prefix.
        """
        if not re.fullmatch(r"[0-9a-f]{8,63}", prefix):
            return prefix
        names = {path.stem for path in self.listed()}
        names |= {path.name for of in (self.approved, self.rejected) for path in of.glob("*")}
        found = sorted(name for name in names if name.startswith(prefix))
        if len(found) != 1:
            what = (
                "several experiments have this prefix" if found else "no experiment has this prefix"
            )
            raise ConfigError(what, where=prefix, fix=LISTED)
        return found[0]

    def approve(self, digest: str, runs: int = 1, model: str = "", join: str = "") -> bool:
        """Approve an experiment, or extend its approval, and withdraw any rejection.

        Args:
            digest: the experiment's hash.
            runs: total number of approved runs.
            model: checksum of a first model other than the one that the site builds.
            join: a run whose current model is accepted without checking its lineage.

        Returns:
            True if the experiment was pending.

        Raises:
            ConfigError: `digest` is not an experiment hash, or `model` not a model checksum.
        """
        _require_hash(digest)
        if model and not re.fullmatch(r"[0-9a-f]{64}", model):
            raise ConfigError(
                "is not a model checksum",
                where=model,
                fix="Give the 64 hexadecimal digits of its SHA-256",
            )
        before = self._of(digest)
        values = {
            **_signature(),
            "runs": max(runs, int(before.get("runs", 1))),
            "models": sorted({*before.get("models", []), *([model] if model else [])}),
            "joined": sorted({*before.get("joined", []), *([join] if join else [])}),
        }
        write_sealed(self.approved / digest, values)
        (self.rejected / digest).unlink(missing_ok=True)
        return self._remove_pending(digest)

    def reject(self, digest: str) -> bool:
        """Reject an experiment, whether approved, pending or neither.

        Returns:
            True if the experiment was pending.

        Raises:
            ConfigError: `digest` is not an experiment hash.
        """
        _require_hash(digest)
        # Written before the approval is removed, so that the rejection survives a crash.
        write_sealed(self.rejected / digest, _signature())
        (self.approved / digest).unlink(missing_ok=True)
        return self._remove_pending(digest)

    def _remove_pending(self, digest: str) -> bool:
        pending = self.waiting / f"{digest}.json"
        known = pending.exists()
        pending.unlink(missing_ok=True)
        return known

    def withdraw(self, digest: str) -> str:
        """Withdraw an approval or a rejection, or remove a pending experiment.

        Returns:
            A sentence on what was done.

        Raises:
            ConfigError: `digest` is not an experiment hash, or not a known one.
        """
        _require_hash(digest)
        approved, pending = self.approved / digest, self.waiting / f"{digest}.json"
        if self.is_rejected(digest):
            (self.rejected / digest).unlink()
            return "rejection withdrawn; the experiment is pending again from its next task"
        if approved.exists():
            approved.unlink()
            return "approval withdrawn; this takes effect with the next task"
        if pending.exists():
            pending.unlink()
            return "no longer pending; the experiment is pending again from its next task"
        raise ConfigError("is not approved, rejected or pending", where=digest, fix=LISTED)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _signature() -> dict[str, str]:
    """Return the current user and time (UTC)."""
    return {"by": _person(), "at": datetime.now(UTC).isoformat(" ", "minutes")}


def _signed(values: Values) -> str:
    return f"by {values.get('by', 'an unknown user')} at {values.get('at', 'an unknown time')}"


def _person() -> str:
    """Return the name of the current user, or the user id where there is none (containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _require_hash(digest: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ConfigError("is not an experiment hash (64 digits)", where=digest, fix=LISTED)
