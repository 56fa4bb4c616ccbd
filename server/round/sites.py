"""Site-level view of a run.

It sends tasks by site name, yields validated answers, and emits the rest as events.
"""

import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from flwr.serverapp import Grid

from mama.errors import ProtocolError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import PROTOCOL, Answer, Kind, Task
from mama.system.journal import content_of
from mama.system.logs import printable
from server.cohort.signers import Signers
from server.report.privacy import spent
from server.round.connections import Connections, Joined, Left, Refused
from server.round.dispatch import Dispatcher, Exchange, Query
from server.round.state import Next, RoundState, TaskState, Verdict
from server.round.transport import Reply, Transport
from server.round.validation import check_answer
from server.run.context import RunContext
from server.run.downlink import Downlink
from server.run.events import (
    DuplicateAnswer,
    Extended,
    LateAnswer,
    LicenceKnown,
    SiteJoined,
    SiteLeft,
    SiteRevoked,
    StatisticsAnswered,
    TaskResent,
    TaskSent,
)

# Seconds between two polls, from the first to the last while nothing comes.
QUICK_S, SLOW_S = 0.05, 2.0


@dataclass(frozen=True)
class Delivery:
    """A validated answer. Late: its round had closed; duplicate: another answer was accepted.

    Attributes:
        bytes_down: sent to the site for this task.
    """

    site: str
    task: Task
    reply: Reply
    when: Literal["on_time", "late", "duplicate"]
    bytes_down: int


class Sites:
    """Sites of a run over a grid."""

    def __init__(self, grid: Grid, run: RunContext):
        self._run, self._gathered = run, False
        self._canonical, self._hash = run.experiment.canonical_json(), run.experiment.hash()
        # Head of each site's privacy ledger when last heard of, so that the site notices an older
        # one.
        ledgers = spent(run.folder.history(), run.sites.ledgers)
        self._ledgers = {site: ledger["head"] for site, ledger in ledgers.items()}
        models = run.folder.models(run.checkpoint.round)
        self.downlink = Downlink(run.experiment.exchange, models)
        values = sum(prod(shape) for shape in run.checkpoint.shapes.values())
        self._signers = Signers(run.roster)
        transport = Transport(grid, self._signers, values)
        self._dispatcher = Dispatcher(transport)
        self._statistics = Query(transport, run.experiment.participation.deadline_s)
        self.connections = Connections(
            transport,
            run.checkpoint.base,
            lambda node: self._task("describe", f"node-{node}"),
            run.experiment.participation.deadline_s,
        )

    @property
    def connected(self) -> Collection[str]:
        """The connected sites."""
        return self.connections.by_site

    def poll(self, *, now: bool = False) -> None:
        """Take up what has changed among connections."""
        number = self._run.number
        for change in self.connections.poll(now=now):
            match change:
                case Joined(answer):
                    self._welcome(answer)
                case Left(site, None):
                    self._run.emit(SiteRevoked(round=number, site=site))
                case Left(site, float(silent_s)):
                    self._run.emit(SiteLeft(round=number, site=site, silent_s=silent_s))
                case Refused(name, problem, code):
                    self._run.problem(name, problem, code)
        for site, task, reply in self._statistics.replies():
            self._take_statistics(site, task, reply)

    def ask_statistics(self) -> None:
        """Ask connected sites for statistics of their data, once a run; `poll` takes the answers.

        Sites that speak an earlier protocol have none.
        """
        answered = self._run.folder.history().statistics
        for site, connection in self.connections.by_site.items():
            if site not in answered and connection.protocol == PROTOCOL:
                self._statistics.send(site, self._task("statistics", site), connection)

    def open_round(self, number: int, *, retry_refused: bool) -> None:
        """Begin a round with the connections of this moment."""
        self._run.number = number
        if retry_refused:
            self.connections.retry_refused()
        self.poll(now=True)

    def exchange(
        self,
        kind: Kind,
        state: RoundState,
        *,
        probes: bool = False,
        payloads: Mapping[str, bytes] | None = None,
    ) -> Iterator[Delivery]:
        """Drive an exchange until it closes, and yield each valid answer, late ones too.

        An answer counts unless the caller calls `state.mark_failed` before it takes the next one.
        The tensors of an answer are in memory until then.

        Args:
            kind: of the tasks.
            state: of the exchange, with its sites.
            probes: whether to fit linear probes, in an evaluation.
            payloads: sent with the tasks, by site; None for the global model.
        """
        tasks = {site: self._task(kind, site, probes=probes) for site in state.progress}
        exchange = Exchange(kind, tasks, state)
        self._run.emit(TaskSent(round=self._run.number, task=kind, sites=list(tasks)))
        pause = QUICK_S
        while not state.closed:
            self.poll()
            self._send_due(exchange, payloads)
            came = False
            for delivery in self._deliveries(exchange):
                came = True
                yield from self._validated(exchange, delivery)
                # Used or not: two updates must not be in memory when the next one comes.
                delivery.reply.payload = b""
            pause = self._go_on(state, came, pause)
        for site in state.silent:
            self._run.problem(site, self._silence(site))

    def learn_ledger(self, answer: Answer) -> None:
        """Remember the head of a site's privacy ledger, if its answer has one."""
        if answer.training and answer.training.privacy:
            self._ledgers[answer.site] = answer.training.privacy.head

    def _take_statistics(self, site: str, task: Task, reply: Reply) -> None:
        problem, _ = self._fault(Delivery(site, task, reply, "on_time", bytes_down=0))
        found = reply.answer.statistics if reply.answer and not problem else None
        self._run.emit(
            StatisticsAnswered(
                site=site,
                statistics=found.model_dump() if found else None,
                problem=printable(problem) or None,
            )
        )

    def _go_on(self, state: RoundState, came: bool, pause: float) -> float:
        """Close, extend or wait; returns the seconds of the next pause."""
        now = time.monotonic()
        silent_s = {site: self.connections.silent_s(site) for site in state.silent}
        match state.next(now, silent_s):
            case Next.CLOSE | Next.GIVE_UP:
                state.close()
            case Next.EXTEND:
                reason = state.shortfall
                state.extend(now)
                times = state.extended
                self._run.emit(Extended(round=self._run.number, times=times, reason=reason))
            case Next.WAIT if not came:
                time.sleep(pause)
        return QUICK_S if came else min(1.5 * pause, SLOW_S)

    def _send_due(self, exchange: Exchange, payloads: Mapping[str, bytes] | None) -> None:
        now, connections = time.monotonic(), self.connections.by_site
        for site in exchange.state.due(now, connections):
            if exchange.state.progress[site].ever_sent:
                self._run.emit(TaskResent(round=self._run.number, site=site))
            payload = self._model_for(site) if payloads is None else payloads[site]
            self._dispatcher.send(exchange, site, connections[site], payload)

    def _deliveries(self, exchange: Exchange) -> Iterator[Delivery]:
        for origin, site, reply in self._dispatcher.replies(exchange.kind):
            verdict = origin.state.on_reply(site, reply.outcome)
            if verdict == Verdict.RESEND:
                self.poll(now=True)
                continue
            if verdict == Verdict.IGNORE:
                continue
            task, sent = origin.tasks[site], origin.bytes_down[site]
            when: Literal["on_time", "late", "duplicate"] = "on_time"
            if verdict != Verdict.ACCEPT:
                late = verdict == Verdict.LATE
                when, kind = ("late", LateAnswer) if late else ("duplicate", DuplicateAnswer)
                self._run.emit(kind(round=self._run.number, site=site, task_round=task.round))
            yield Delivery(site, task, reply, when, sent)

    def _validated(self, exchange: Exchange, delivery: Delivery) -> Iterator[Delivery]:
        """Yield a delivery if it is a valid answer and no duplicate; record any other."""
        state, site, reply = exchange.state, delivery.site, delivery.reply
        on_time = delivery.when == "on_time"
        if delivery.when != "duplicate":
            problem, code = self._fault(delivery)
            if not problem:
                yield delivery
                if on_time and state.progress[site].state == TaskState.REPLIED:
                    state.mark_done(site)
                return
            self._run.problem(site, problem, code)
            if on_time:
                private = self._run.experiment.privacy.mode == "patient"
                state.mark_failed(site, exhausted=private and code == ErrorCode.BUDGET)
        if reply.payload:
            self._run.record(site, delivery.task.task, content_of(reply.payload), "refused")

    def _fault(self, delivery: Delivery) -> tuple[str, str]:
        """Return the problem of an answer and its code; the problem is empty for a valid one."""
        answer = delivery.reply.answer
        if answer is None:
            return delivery.reply.problem, "refused"
        if answer.status != "ok":
            return answer.status.sentence, answer.status.value
        try:
            check_answer(answer, delivery.task, delivery.site)
        except ProtocolError as error:
            return str(error), "refused"
        self.downlink.learn(delivery.site, answer.holds)
        return "", ""

    def _model_for(self, site: str) -> bytes:
        block = self.downlink.block_for(site)
        self.downlink.forget(site)
        return block

    def _task(self, kind: Kind, site: str, *, probes: bool = False) -> Task:
        run = self._run
        signed: dict[str, Any] = {}
        if run.roster is not None:
            signed["roster"] = run.roster.read_text(encoding="utf-8").strip()
        return Task(
            run=run.checkpoint.run,
            round=run.number,
            task=f"{kind}-{run.number}-{site}",
            kind=kind,
            experiment=self._canonical,
            experiment_hash=self._hash,
            probes=probes,
            ledger=self._ledgers.get(site) if kind == "train" else None,
            nonce=secrets.token_hex(16),
            **signed,
        )

    def gathered(self) -> None:
        """End the start: a site that connects from now on joins."""
        for site in sorted(filter(self._revoked, self._run.sites.failures)):
            self._run.emit(SiteRevoked(round=self._run.number, site=site))
        self._gathered = True

    def _silence(self, site: str) -> str:
        """Return the reason that a site did not answer."""
        if site in self.connected:
            return "no answer before the deadline"
        return "revoked by the coordinator" if self._revoked(site) else "not connected"

    def _revoked(self, site: str) -> bool:
        return self._signers.key_of(site) is None

    def _welcome(self, answer: Answer) -> None:
        self._run.sites.met(answer.site)
        self.downlink.learn(answer.site, answer.holds)
        if answer.share_weights is False:
            self._run.emit(LicenceKnown(round=self._run.number, site=answer.site))
        # Not at the start: a run that is continued keeps its pauses.
        if self._gathered:
            self._run.sites.returned(answer.site)
            self._run.emit(SiteJoined(round=self._run.number, site=answer.site))
