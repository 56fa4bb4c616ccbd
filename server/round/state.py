"""State of one exchange: a task for each of several sites, until all replied or the time is up.

A pure state machine: no clock, no Flower, no I/O. Its driver (server/round/sites.py) passes in the
time and what happened, sends what is due, and applies the decisions. The scheme is that of
`Progress` in etcd-io/raft: each task has a state, and each state says what the driver does in it.

    PENDING ──mark_sent──▶ SENT ──on_reply: ACCEPT──▶ REPLIED ──mark_done──▶ DONE
       ▲                    │                            └──────mark_failed──▶ FAILED
       ├──on_reply: RESEND──┘                                                    │
       └──extend (also from SENT) ───────────────────────────────────────────────┘

A new connection sends a SENT task again, which stays SENT. A PENDING task becomes REPLIED by the
answer to an earlier send.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from server.cohort.quorum import Quorum

# A task that is lost this often in a round is not lost by accident.
MAX_SENDS = 5
# Seconds before a site that failed gets its task again in an extended round.
RETRY_S = 15.0


class TaskState(StrEnum):
    """State of one site's task; open are PENDING and SENT."""

    PENDING = "pending"
    """Sent once its site is connected, a slot is free and `not_before` has passed."""
    SENT = "sent"
    """The driver polls for its reply, and sends it again if the site gets a new connection."""
    REPLIED = "replied"
    """The driver validates its reply, then calls `mark_done` or `mark_failed`."""
    DONE = "done"
    """Its reply counts. The driver does nothing more; further replies are duplicates."""
    FAILED = "failed"
    """Its reply was an error or was rejected. Nothing more, unless the round is extended."""


OPEN = (TaskState.PENDING, TaskState.SENT)


class Outcome(StrEnum):
    """Outcome of a task according to a delivered message."""

    ANSWER = "answer"
    PROBLEM = "problem"  # no answer, and no use in asking again
    LOST = "lost"  # by Flower or with the site's process
    NO_MODEL = "no_model"  # the site lacks the model that its delta starts from


class Verdict(StrEnum):
    """Decision on a delivered message."""

    ACCEPT = "accept"  # the task's first reply: validate it
    RESEND = "resend"  # the task is pending again
    LATE = "late"  # first reply, after the exchange closed
    DUPLICATE = "duplicate"  # another reply was accepted before
    IGNORE = "ignore"  # no answer, and its task is no longer open


class Next(StrEnum):
    """Decision on the whole exchange."""

    WAIT = "wait"
    EXTEND = "extend"  # time is up without a quorum: call `extend`
    CLOSE = "close"  # complete, or closed by quorum
    GIVE_UP = "give_up"  # time is up without a quorum, and no extension is left


@dataclass
class Progress:
    """Progress of one site's task.

    Attributes:
        connection: the one it was last sent over; None unless SENT.
        until: end of its time, set when it first could be sent; None before, and after `extend`.
            Afterwards nobody waits for its site, but an answer counts until the exchange closes.
        not_before: earliest time to send it.
        sends: since the start or the last extension; at most MAX_SENDS follow from lost messages.
        ever_sent: whether it was sent at all.
        replied: whether a reply was accepted, so that any other is a duplicate.
    """

    state: TaskState = TaskState.PENDING
    connection: Hashable | None = None
    until: float | None = None
    not_before: float = -inf
    sends: int = 0
    ever_sent: bool = False
    replied: bool = False

    @property
    def is_open(self) -> bool:
        """True while a reply is awaited."""
        return self.state in OPEN

    def expired(self, now: float) -> bool:
        """Return whether its time is up."""
        return self.until is not None and now >= self.until

    def become_pending(self) -> None:
        """Have it sent again."""
        self.state, self.connection = TaskState.PENDING, None


@dataclass
class RoundState:
    """One exchange. `done` grows only while it is open, and by each site at most once.

    Attributes:
        sites: in the order in which they are served where slots are few.
        wait_s: seconds that each site has from its first chance to be sent its task.
        slots: tasks under way at the same time.
        gone_s: silence after which a site at its task is not waited for, given a quorum of others.
        quorum: over `expected`; None where any number of answers will do.
        expected: sites that the quorum is counted over, a superset of `sites`.
        extensions: how often the time may be extended for want of a quorum.
        done: sites whose answers count.
        exhausted: sites whose patients' privacy budget does not allow the round.
        closed: nothing counts any more.
    """

    sites: Iterable[str]
    wait_s: float
    slots: int = 1
    gone_s: float = inf
    quorum: Quorum | None = None
    expected: list[str] = field(default_factory=list)
    extensions: int = 0
    extended: int = 0
    done: set[str] = field(default_factory=set)
    exhausted: set[str] = field(default_factory=set)
    closed: bool = False

    def __post_init__(self) -> None:
        self.progress = {site: Progress() for site in self.sites}

    @property
    def has_quorum(self) -> bool:
        """True if enough answers count."""
        return self.quorum is None or self.quorum.holds(self.done, self.expected)

    @property
    def budget_spent(self) -> bool:
        """True if a quorum of more than one site lacks privacy budget: waiting is futile."""
        spent = self.exhausted
        return (
            len(spent) > 1 and self.quorum is not None and self.quorum.holds(spent, self.expected)
        )

    @property
    def shortfall(self) -> str:
        """The lack of a quorum, for people."""
        return self.quorum.shortfall(self.done, self.expected) if self.quorum else ""

    @property
    def silent(self) -> list[str]:
        """Sites without a reply so far."""
        return sorted(site for site, task in self.progress.items() if task.is_open)

    def due(self, now: float, connected: Mapping[str, Hashable]) -> list[str]:
        """Return the sites to send to now, and start the clocks of tasks that could be sent.

        Args:
            now: on the clock of the exchange, in seconds.
            connected: each connected site's connection; a new one is unequal to any before.
        """
        sent = [task for task in self.progress.values() if task.state == TaskState.SENT]
        free = self.slots - sum(not task.expired(now) for task in sent)
        due = []
        for site, task in self.progress.items():
            if not task.is_open or task.expired(now) or now < task.not_before:
                continue
            connection = connected.get(site)
            if task.state == TaskState.SENT:
                if connection is not None and connection != task.connection:
                    due.append(site)  # it holds its slot already
                continue
            if free <= 0:
                continue
            if task.until is None:
                task.until = now + self.wait_s
            if connection is not None:
                due.append(site)
                free -= 1
        return due

    def left_s(self, site: str, now: float) -> float:
        """Return the seconds that a site's started task has left."""
        until = self.progress[site].until
        return self.wait_s if until is None else until - now

    def mark_sent(self, site: str, connection: Hashable) -> None:
        """Note that a due task was sent."""
        task = self.progress[site]
        task.state, task.connection = TaskState.SENT, connection
        task.sends, task.ever_sent = task.sends + 1, True

    def on_reply(self, site: str, outcome: Outcome) -> Verdict:
        """Decide on a message delivered for a site's task."""
        task = self.progress[site]
        if self.closed or not task.is_open:
            if outcome in (Outcome.PROBLEM, Outcome.LOST):
                return Verdict.IGNORE
            return Verdict.DUPLICATE if task.replied else Verdict.LATE
        if outcome in (Outcome.LOST, Outcome.NO_MODEL) and task.sends < MAX_SENDS:
            task.become_pending()
            return Verdict.RESEND
        task.state, task.connection, task.replied = TaskState.REPLIED, None, True
        return Verdict.ACCEPT

    def mark_done(self, site: str) -> None:
        """Count a site's answer.

        Raises:
            RuntimeError: the exchange is closed, or the site has no reply to count.
        """
        task = self.progress[site]
        if self.closed or task.state != TaskState.REPLIED:
            raise RuntimeError(f"{site}: no reply to count ({task.state}, closed: {self.closed})")
        task.state = TaskState.DONE
        self.done.add(site)
        self.exhausted.discard(site)

    def mark_failed(self, site: str, *, exhausted: bool = False) -> None:
        """Note that a site's reply does not count."""
        self.progress[site].state = TaskState.FAILED
        if exhausted:
            self.exhausted.add(site)

    def next(self, now: float, silent_s: Mapping[str, float]) -> Next:
        """Decide whether the exchange goes on.

        Args:
            now: on the clock of the exchange, in seconds.
            silent_s: seconds since the last contact of each disconnected site.
        """
        waiting = {site: task for site, task in self.progress.items() if task.is_open}
        idle = all(self._gone(task, silent_s.get(site, 0.0)) for site, task in waiting.items())
        if idle and self.has_quorum:
            return Next.CLOSE
        if any(not task.expired(now) for task in waiting.values()):
            return Next.WAIT
        if self.has_quorum:
            return Next.CLOSE
        if self.extended < self.extensions and not self.budget_spent:
            return Next.EXTEND
        return Next.GIVE_UP

    def extend(self, now: float) -> None:
        """Restart the time of all sites without a counted answer.

        A failed site gets its task again after RETRY_S.
        """
        self.extended += 1
        for task in self.progress.values():
            if task.state == TaskState.DONE:
                continue
            failed = task.state == TaskState.FAILED
            task.not_before = now + min(RETRY_S, self.wait_s) if failed else now
            task.become_pending()
            task.until, task.sends, task.replied = None, 0, False

    def close(self) -> None:
        """Count nothing more; replies are late from now on."""
        self.closed = True

    def _gone(self, task: Progress, silent_s: float) -> bool:
        """Return whether the site of an open task never connected, or is silent for `gone_s`."""
        return silent_s > 0 and (silent_s >= self.gone_s or not task.ever_sent)
