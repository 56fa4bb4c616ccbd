"""Events of a run, one frozen class a kind: the lines of rounds.jsonl.

`docs/reliability.md` lists them; its table is made from these classes (docs/make_events.py).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """Base of all events.

    Attributes:
        kind: `event` of its line.
        time: Unix seconds, set when it is logged.
    """

    kind: ClassVar[str]
    time: float | None = field(default=None, kw_only=True)

    def record(self) -> dict[str, Any]:
        """Return the values of its line."""
        values = {"event": self.kind, **asdict(self)}
        return {name: value for name, value in values.items() if value is not None or name in _NULL}


# Values that are written as null; any other None is left out.
_NULL = {"norm", "auc"}


@dataclass(frozen=True)
class Start(Event):
    """The server starts, for the first time or again."""

    kind = "start"
    run: str
    round: int = field(metadata={"help": "rounds done"})
    rounds: int
    shares: Mapping[str, float] = field(default_factory=dict, metadata={"help": "public, by site"})


@dataclass(frozen=True)
class Damaged(Event):
    """A checkpoint was passed over."""

    kind = "damaged"
    checkpoint: str
    instead: int = field(metadata={"help": "round of the one used instead"})


@dataclass(frozen=True)
class LogLost(Event):
    """A log lacks lines that the checkpoint knows; the run goes on without them."""

    kind = "log_lost"
    log: str
    lines: int = field(metadata={"help": "known"})
    left: int


@dataclass(frozen=True)
class SitesKnown(Event):
    """The sites connected at the start are known."""

    kind = "roster"
    sites: list[str]


@dataclass(frozen=True)
class StatisticsAnswered(Event):
    """A site answered the query on its data before the first round; it is not asked again."""

    kind = "statistics"
    site: str
    statistics: dict[str, Any] | None = field(
        default=None, metadata={"help": "suppressed counts; missing if the site releases none"}
    )
    problem: str | None = field(default=None, metadata={"help": "why an answer does not count"})


@dataclass(frozen=True)
class SiteJoined(Event):
    """A site connects, for the first time or again."""

    kind = "joined"
    round: int
    site: str


@dataclass(frozen=True)
class LicenceKnown(Event):
    """The licence of a site's data lets no weights trained on it be shared."""

    kind = "licence"
    round: int
    site: str


@dataclass(frozen=True)
class SiteLeft(Event):
    """A site is no longer connected."""

    kind = "left"
    round: int
    site: str
    silent_s: float = field(metadata={"help": "since it was last heard of"})


@dataclass(frozen=True)
class SiteRevoked(Event):
    """A site was taken off the roster while it was connected, or before this start."""

    kind = "revoked"
    round: int
    site: str


@dataclass(frozen=True)
class Waiting(Event):
    """A run that has done rounds waits at a start for its quorum, as long as it takes."""

    kind = "waiting"
    round: int
    missing: list[str]
    here: list[str]


@dataclass(frozen=True)
class TaskSent(Event):
    """A task goes to sites."""

    kind = "asked"
    round: int
    task: str = field(metadata={"help": "its kind"})
    sites: list[str]


@dataclass(frozen=True)
class UpdateAccepted(Event):
    """An update was folded."""

    kind = "update"
    round: int
    site: str
    bytes_up: int
    norm: float | None


@dataclass(frozen=True)
class Problem(Event):
    """A site or its answer is not as it should be."""

    kind = "problem"
    round: int
    site: str
    problem: str
    code: str = field(default="refused", metadata={"help": "the site's, or `refused`"})


@dataclass(frozen=True)
class TaskResent(Event):
    """A task was sent again."""

    kind = "asked_again"
    round: int
    site: str


@dataclass(frozen=True)
class LateAnswer(Event):
    """An answer came after its round had closed."""

    kind = "answered_late"
    round: int
    site: str
    task_round: int


@dataclass(frozen=True)
class DuplicateAnswer(Event):
    """A second answer to one task."""

    kind = "answered_again"
    round: int
    site: str
    task_round: int


@dataclass(frozen=True)
class Extended(Event):
    """A round without a quorum gets more time."""

    kind = "extended"
    round: int
    times: int
    reason: str


@dataclass(frozen=True)
class Paused(Event):
    """A site is asked only every `pause_after` rounds from now on."""

    kind = "paused"
    round: int
    site: str
    failures: int


@dataclass(frozen=True)
class RoundDone(Event):
    """A round has closed."""

    kind = "round"
    round: int
    seconds: float
    train_s: float = field(metadata={"help": "least time that its training takes"})
    asked: list[str]
    missing: list[str] = field(metadata={"help": "expected, without an update"})
    share: float = field(metadata={"help": "public share of the updates"})
    late: dict[str, int] = field(metadata={"help": "site: the round that its update is of"})
    lost: bool = field(metadata={"help": "secure aggregation came to nothing"})
    bytes_up: dict[str, int]
    bytes_down: dict[str, int]
    norms: dict[str, float | None]
    cosines: dict[str, float | None]
    sites: dict[str, dict[str, Any]] = field(metadata={"help": "training metrics by site"})
    terms: dict[str, float] = field(metadata={"help": "medians over sites"})
    noised: int | None = field(
        default=None, metadata={"help": "noised means so far, under site-level privacy"}
    )


@dataclass(frozen=True)
class Evaluated(Event):
    """Sites evaluated a model."""

    kind = "evaluation"
    round: int
    federated: dict[str, Any]
    auc: float | None = field(metadata={"help": "mean over labels; the best model has the largest"})


@dataclass(frozen=True)
class ModelReceived(Event):
    """A site has stored the last model."""

    kind = "received"
    round: int
    site: str


@dataclass(frozen=True)
class Stopped(Event):
    """The run ended early."""

    kind = "stopped"
    reason: str
    exit_code: int | None = None


@dataclass(frozen=True)
class Finished(Event):
    """The run ended."""

    kind = "finished"
    round: int
    model: str = field(metadata={"help": "SHA-256 of the last model's tensors"})


KINDS: dict[str, type[Event]] = {kind.kind: kind for kind in Event.__subclasses__()}


def parse(record: Mapping[str, Any]) -> Event | None:
    """Return the event of a line, None where its kind or its keys are another version's."""
    kind = KINDS.get(record.get("event", ""))
    if kind is None:
        return None
    known = {one.name for one in fields(kind)}
    try:
        return kind(**{name: value for name, value in record.items() if name in known})
    except TypeError:
        return None
