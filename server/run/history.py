"""History of a run: its events folded once, for reports, status, warnings, metrics and privacy.

A start from round r undoes the work of later rounds: they are done again, or lost. What undone
rounds cost in privacy stays.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from mama.exchange.protocol import WAVES
from server.run.events import (
    Evaluated,
    Event,
    Finished,
    LicenceKnown,
    ModelReceived,
    Paused,
    Problem,
    RoundDone,
    SiteJoined,
    SiteLeft,
    SiteRevoked,
    SitesKnown,
    Start,
    StatisticsAnswered,
    Stopped,
    TaskSent,
    UpdateAccepted,
)

# State of a site while it does a task.
AT_WORK = {"train": "training", "evaluate": "evaluating", "finish": "receiving"} | dict.fromkeys(
    WAVES, "masking"
)
ALL_SITES = "all sites"
T = TypeVar("T")


@dataclass
class SiteState:
    """State of one site according to the events.

    Attributes:
        activity: offline, online, training, masking, evaluating, receiving, failed or paused.
        asked: rounds in which it was sent a training task.
        problem: the last one.
        failures: failures in a row when it was last paused.
        heard: time of the last contact, if it disconnected (Unix seconds).
        revoked: whether it is off the roster, whatever its activity.
    """

    activity: str = "offline"
    asked: set[int] = field(default_factory=set)
    problem: str | None = None
    failures: int = 0
    heard: float | None = None
    revoked: bool = False

    @property
    def state(self) -> str:
        """Its activity, or `revoked`."""
        return "revoked" if self.revoked else self.activity


@dataclass
class RunHistory:
    """History of a run, from its events.

    Attributes:
        start: the last one.
        ending: the event that ended the last start; None while it runs, or where it broke off.
        rounds: the last `RoundDone` of each round that was not undone, by number.
        evaluations: likewise.
        paid: every `RoundDone`, undone ones too.
        sites: all names that events speak of, nodes without a site name among them.
        statistics: answers to the query on data, by site; restarts undo none.
        seen: sites that connected.
        licensed: sites whose data's licence lets no weights be shared.
        last: when the last event was logged (Unix seconds).
    """

    start: Start | None = None
    ending: Stopped | Finished | None = None
    rounds: dict[int, RoundDone] = field(default_factory=dict)
    evaluations: dict[int, Evaluated] = field(default_factory=dict)
    paid: list[RoundDone] = field(default_factory=list)
    sites: dict[str, SiteState] = field(default_factory=dict)
    statistics: dict[str, StatisticsAnswered] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    licensed: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    last: float = 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Public shares at the last start, by site."""
        return dict(self.start.shares) if self.start else {}

    @property
    def done(self) -> int:
        """Number of rounds done."""
        return max([self.start.round if self.start else 0, *self.rounds])

    @property
    def state(self) -> str:
        """`running`, `finished` or `stopped`; `queued` before the first start."""
        if self.ending:
            return self.ending.kind
        return "running" if self.start else "queued"

    @property
    def round_seconds(self) -> float | None:
        """Mean seconds of a round; None before the first."""
        seconds = [one.seconds for one in self.rounds.values()]
        return sum(seconds) / len(seconds) if seconds else None


def replay(events: Iterable[Event]) -> RunHistory:
    """Fold a run's events."""
    history = RunHistory()
    for event in events:
        _apply(history, event)
        history.last = event.time or history.last
    return history


def _apply(history: RunHistory, event: Event) -> None:
    sites = history.sites
    match event:
        case Start():
            history.start, history.ending = event, None
            history.rounds = _until(history.rounds, event.round)
            history.evaluations = _until(history.evaluations, event.round)
            for one in sites.values():
                one.activity, one.revoked = "offline", False
                one.asked = {r for r in one.asked if r <= event.round}
        case SitesKnown():
            history.seen |= set(event.sites)
            _set(history, event.sites, "online")
            for site in event.sites:
                sites[site].revoked = False
        case StatisticsAnswered():
            history.statistics.setdefault(event.site, event)
        case TaskSent():
            _set(history, event.sites, AT_WORK[event.task])
            if event.task == "train":
                for site in event.sites:
                    sites[site].asked.add(event.round)
        case SiteJoined():
            history.seen.add(event.site)
            _set(history, [event.site], "online")
            sites[event.site].heard, sites[event.site].revoked = None, False
        case LicenceKnown():
            history.licensed.add(event.site)
        case SiteRevoked():
            history.seen.add(event.site)
            one = sites.setdefault(event.site, SiteState())
            one.heard, one.revoked = None, True
        case SiteLeft():
            _set(history, [event.site], "offline")
            sites[event.site].heard = (event.time or 0.0) - event.silent_s
        case Problem():
            history.problems.append(event)
            if event.site != ALL_SITES:
                _set(history, [event.site], "failed")
                sites[event.site].problem = event.problem
        case Paused():
            _set(history, [event.site], "paused")
            sites[event.site].failures = event.failures
        case UpdateAccepted() | ModelReceived():
            _set(history, [event.site], "online")
        case RoundDone():
            history.rounds[event.round] = event
            history.paid.append(event)
            history.seen |= set(event.sites)
            _set(history, event.sites, "online")
        case Evaluated():
            history.evaluations[event.round] = event
            _rest(history, ["evaluating"])
        case Stopped() | Finished():
            history.ending = event
            _rest(history, AT_WORK.values())


def _set(history: RunHistory, sites: Iterable[str], activity: str) -> None:
    for site in sites:
        history.sites.setdefault(site, SiteState()).activity = activity


def _rest(history: RunHistory, activities: Iterable[str]) -> None:
    at_work = set(activities)
    for one in history.sites.values():
        if one.activity in at_work:
            one.activity = "online"


def _until(by_round: dict[int, T], last: int) -> dict[int, T]:
    return {number: value for number, value in by_round.items() if number <= last}
