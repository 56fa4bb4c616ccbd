"""A person's approval of an experiment, by its hash: a changed experiment has another hash and needs another one."""

import re
from pathlib import Path

from client.sitefile import SiteFile
from mama.config import Experiment
from mama.errors import ConfigError
from mama.files import write_text

# Further experiments that a coordinator sends are not kept; a person approves one at a time.
MOST_WAITING = 20


class Approvals:
    """The experiments approved at a site, and those that wait for it, as files named by hash."""

    def __init__(self, site: SiteFile):
        self.approved = site.state / "service" / "approved"
        self.waiting = site.state / "service" / "waiting"

    def has(self, digest: str) -> bool:
        """Whether an experiment is approved."""
        return (self.approved / digest).exists()

    def note(self, experiment: Experiment) -> None:
        """Keep an experiment that waits for approval, so that a person can read it."""
        path = self.waiting / f"{experiment.hash()}.json"
        if not path.exists() and len(self.listed()) < MOST_WAITING:
            write_text(path, experiment.canonical_json() + "\n")

    def listed(self) -> list[Path]:
        """The experiments that wait."""
        return sorted(self.waiting.glob("*.json"))

    def approve(self, digest: str) -> None:
        """Approve an experiment.

        Raises:
            ConfigError: that is no hash of an experiment.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ConfigError(
                "is no experiment's hash (64 digits)",
                where=digest,
                fix="`mama-site approve SITE` lists those that wait",
            )
        write_text(self.approved / digest, "")
        (self.waiting / f"{digest}.json").unlink(missing_ok=True)

    def withdraw(self, digest: str) -> None:
        """Take an approval back; it counts from the next task on."""
        (self.approved / digest).unlink(missing_ok=True)
