"""The sites of a run as the round loop sees them: it asks by name and hears whole answers; of all others it is told."""

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Protocol

from flwr.serverapp import Grid

from mama.config import Experiment
from mama.errors import ProtocolError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Kind, Task
from mama.printable import printable
from server.asking import Arrival, Asking
from server.attendance import Attendance
from server.checkpoint import Checkpoint
from server.checks import check_answer
from server.downlink import Downlink
from server.memory import Memory
from server.post import Post
from server.signers import Signers

# How long to wait for all expected sites to connect, in seconds.
GATHERING_S = 60.0


class Tell(Protocol):
    """Takes an event: its kind and its values."""

    def __call__(self, kind: str, **values: Any) -> None:
        """Log it and pass it on."""


class Sites:
    """Asks sites over a grid.

    Args:
        models: files of the global models that are there, the newest last.
        memory: learns which sites there are.
        ledgers: the head of each site's privacy ledger as it was last heard of, so that an older one is noticed.
        unused: told of tensors that came with an answer which is not whole, or came again.
        at_once: how many work at the same time; 1 where they take turns in one process.
        roster: the file of the signed roster that goes with every task, as it is then; None where there is none.
    """

    def __init__(
        self,
        grid: Grid,
        experiment: Experiment,
        checkpoint: Checkpoint,
        models: Sequence[Path],
        memory: Memory,
        ledgers: dict[str, str],
        tell: Tell,
        unused: Callable[[Arrival], None],
        at_once: int,
        roster: Path | None = None,
    ):
        self._run, self.number, self._memory = checkpoint.run, checkpoint.round, memory
        self._tell, self._unused, self._gathered = tell, unused, False
        self._ledgers, self._roster = ledgers, roster
        self._private = experiment.privacy.mode == "patient"
        self._quorum = experiment.federation.quorum
        self._wait_s = experiment.federation.deadline_s
        # Those whose privacy budget does not allow the round.
        self.exhausted: set[str] = set()
        self._canonical, self._hash = experiment.canonical_json(), experiment.hash()
        self.downlink = Downlink(experiment.federation.exchange, models)
        values = sum(prod(shape) for shape in checkpoint.shapes.values())
        post = Post(grid, Signers(roster), values)
        self._attendance = Attendance(
            post,
            checkpoint.base,
            lambda node: self._task("describe", self.number, f"node-{node}"),
            self._wait_s,
            lambda site, problem, code: self.problem(self.number, site, problem, code),
            self._welcome,
            lambda site, seconds: tell("left", round=self.number, site=site, silent_s=seconds),
        )
        self._asking = Asking(
            post,
            self._attendance,
            at_once,
            lambda site, number: tell("asked_again", round=number, site=site),
            experiment.federation.gone_s,
        )

    @property
    def here(self) -> Collection[str]:
        """The sites that are connected."""
        return self._attendance.seats

    def gather(self, expected: int) -> None:
        """Wait for nodes and learn which sites they are."""
        end = time.monotonic() + GATHERING_S
        self._attendance.look(now=True)
        while self._attendance.nodes < expected and time.monotonic() < end:
            time.sleep(0.2)
            self._attendance.look(now=True)
        while self._attendance.undecided:
            if time.monotonic() > end and len(self.here) >= self._quorum:
                break  # whoever is still at other work joins when it has answered
            self._attendance.hear()
            if self._attendance.undecided:
                time.sleep(0.1)
        self._tell("roster", sites=sorted(self.here))
        self._gathered = True

    def await_quorum(self, expected: int) -> bool:
        """Give sites another `deadline_s` to connect, while there is one that has not; whether they are a quorum."""
        end = time.monotonic() + self._wait_s
        while len(self.here) < self._quorum and time.monotonic() < end:
            self._attendance.look()
            self._attendance.hear()
            if self._attendance.nodes >= expected and not self._attendance.undecided:
                break
            time.sleep(0.2)
        return len(self.here) >= self._quorum

    def await_return(self, expected: int, known: Collection[str]) -> bool:
        """Wait for the sites of a run that has done rounds, as long as it takes; whether they are a quorum.

        It ends without one only when all `expected` nodes are connected and were refused.

        Args:
            known: the sites of the run, of which those that are missing are told.
        """
        told: list[str] | None = None
        forgiven = time.monotonic()
        while len(self.here) < self._quorum:
            self._attendance.look()
            self._attendance.hear()
            missing = sorted(set(known) - set(self.here))
            if missing != told and len(self.here) < self._quorum:
                self._tell("waiting", round=self.number, missing=missing, here=sorted(self.here))
                told = missing
            if self._attendance.nodes >= expected and not self._attendance.undecided:
                break
            if time.monotonic() - forgiven > GATHERING_S:
                forgiven = time.monotonic()
                self._attendance.ask_refused_again()
            time.sleep(0.5)
        return len(self.here) >= self._quorum

    def begin(self, number: int, *, forgive: bool) -> None:
        """See who is there for a round; `forgive` gives nodes that were refused another chance."""
        self.number = number
        self.exhausted.clear()
        if forgive:
            self._attendance.ask_refused_again()
        self._attendance.look(now=True)
        self._attendance.hear()

    def ask(
        self,
        kind: Kind,
        number: int,
        sites: list[str],
        *,
        probes: bool = False,
        payloads: Mapping[str, bytes] | None = None,
        **closing: Callable[[], bool],
    ) -> Iterator[Arrival]:
        """Yield each answer that is whole, late ones too; its tensors are there until the next is asked for.

        Args:
            payloads: what goes with the tasks; the global model where it is None.
            closing: `enough` and `extend` of `Asking.ask`.
        """
        self._tell("asked", round=number, task=kind, sites=sites)
        tasks = [(site, self._task(kind, number, site, probes=probes)) for site in sites]
        silent = set(sites)
        payload_for = self._payload_for if payloads is None else payloads.__getitem__
        for arrival in self._asking.ask(tasks, payload_for, self._wait_s, **closing):
            if arrival.when == "time":
                silent.discard(arrival.site)
            else:
                self._tell(
                    f"answered_{arrival.when}",
                    round=number,
                    site=arrival.site,
                    task_round=arrival.task.round,
                )
            if arrival.when != "again" and self._whole(number, arrival):
                yield arrival
            elif arrival.reply.payload:
                self._unused(arrival)
            # Used or not: two updates must not be in memory when the next one comes.
            arrival.reply.payload = b""
        for site in sorted(silent):
            why = "no answer before the deadline" if site in self.here else "not connected"
            self.problem(number, site, why)

    def learn_ledger(self, answer: Answer) -> None:
        """Remember the head of a site's privacy ledger, if it says one."""
        if answer.training and answer.training.privacy:
            self._ledgers[answer.site] = answer.training.privacy.head

    def problem(self, number: int, site: str, problem: str, code: str = "refused") -> None:
        """Tell of something that is not as it should be with a site, whose words `problem` may hold."""
        self._tell("problem", round=number, site=site, problem=printable(problem), code=code)

    def _whole(self, number: int, arrival: Arrival) -> bool:
        site, answer = arrival.site, arrival.reply.answer
        if answer is None:
            self.problem(number, site, arrival.reply.problem)
        elif answer.status != "ok":
            self.problem(number, site, answer.status.sentence, answer.status.value)
            if answer.status == ErrorCode.BUDGET and self._private:
                self.exhausted.add(site)
        else:
            try:
                check_answer(answer, arrival.task, site)
            except ProtocolError as error:
                self.problem(number, site, str(error))
            else:
                self.downlink.learn(site, answer.holds)
                return True
        return False

    def _payload_for(self, site: str) -> bytes:
        block = self.downlink.block_for(site)
        self.downlink.forget(site)
        return block

    def _task(self, kind: Kind, number: int, site: str, *, probes: bool = False) -> Task:
        return Task(
            run=self._run,
            round=number,
            task=f"{kind}-{number}-{site}",
            kind=kind,
            experiment=self._canonical,
            experiment_hash=self._hash,
            probes=probes,
            ledger=self._ledgers.get(site) if kind == "train" else None,
            roster=self._roster.read_text(encoding="utf-8").strip() if self._roster else None,
            nonce=secrets.token_hex(16),
        )

    def _welcome(self, answer: Answer) -> None:
        self._memory.met(answer.site)
        self.downlink.learn(answer.site, answer.holds)
        # Not at the start: a run that is continued pauses whom it paused.
        if self._gathered:
            self._memory.returned(answer.site)
            self._tell("joined", round=self.number, site=answer.site)
