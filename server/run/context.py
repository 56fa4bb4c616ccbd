"""A run at work: the files, figures and settings that all parts of the round loop share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mama.config import Experiment
from mama.system.journal import Entry
from mama.system.logs import printable
from server.cohort.members import Members
from server.run.audit import Audit
from server.run.checkpoint import Checkpoint
from server.run.events import Event, Problem
from server.run.folder import RunFolder
from server.run.log_heads import AUDIT
from server.run.site_history import SiteHistory

Listener = Callable[[Event], None]


@dataclass
class RunContext:
    """One run that a process works on.

    Attributes:
        listener: gets every event after it is logged.
        expected: sites to wait for at the start; fewer may do, if they are a quorum.
        slots: sites that work at the same time; 1 where they take turns in one process.
        roster: the federation's signed roster for the sites; None in a simulation without one.
        checkpoint: the run after its last round.
        number: the open round; before the first one, that of the checkpoint.
    """

    folder: RunFolder
    listener: Listener
    expected: int
    slots: int
    roster: Path | None = None
    experiment: Experiment = field(init=False)
    checkpoint: Checkpoint = field(init=False)
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.experiment = self.folder.experiment()
        self.checkpoint = self.folder.latest()
        self.number = self.checkpoint.round
        self.sites: SiteHistory = self.checkpoint.state.memory
        self.members = Members(self.experiment.participation, self.roster)
        self._audit = Audit(self.folder.path / AUDIT, self.checkpoint.run)

    @property
    def known(self) -> set[str]:
        """All sites of the run."""
        return self.members.sites(self.sites.failures)

    @property
    def audit(self) -> Audit:
        """The audit log."""
        return self._audit

    def emit(self, event: Event) -> None:
        """Log an event and pass it on."""
        self.folder.log(event)
        self.listener(event)

    def problem(self, site: str, problem: str, code: str = "refused") -> None:
        """Emit a problem of the open round; the text may be the site's."""
        self.emit(Problem(round=self.number, site=site, problem=printable(problem), code=code))

    def record(self, site: str, task: str, content: Entry, outcome: str) -> None:
        """Note in the audit log what became of an answer."""
        self._audit.record(site, self.number, task, content, outcome)
