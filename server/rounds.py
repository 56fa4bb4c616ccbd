"""The round loop: choose sites, ask them, check and fold what comes back, step, checkpoint, evaluate."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress
from typing import Any

from flwr.serverapp import Grid

from mama.errors import ProtocolError, QuorumError, StorageError
from mama.evaluation.pooling import summary
from mama.exchange.coding import encode
from mama.exchange.metrics import EvaluationCounts
from mama.exchange.protocol import Answer, Kind, Task
from mama.files import full_disk_named, write_bytes
from server.aggregation.optimiser import ServerOptimiser
from server.asking import Arrival, Asking
from server.attendance import Attendance
from server.audit import Audit, content_of
from server.checkpoint import MODEL
from server.checks import check_answer
from server.choosing import choose, enrolled
from server.downlink import Downlink
from server.folder import Event, RunFolder
from server.folding import Folding
from server.outcome import mean_auc, outcome, terms, training_seconds
from server.post import Post
from server.quorum import Quorum

Listener = Callable[[Event], None]
# How long to wait for all expected sites to connect, in seconds.
GATHERING_S = 60.0
OPTIMISER = "optimiser.safetensors"


class Federation:
    """One run over one roster of sites.

    Args:
        expected: sites to wait for at the start; fewer may do, if they are a quorum.
        at_once: how many sites work at the same time; 1 where they take turns in one process.
    """

    def __init__(
        self, grid: Grid, folder: RunFolder, listener: Listener, *, expected: int, at_once: int
    ):
        self.folder, self.listener = folder, listener
        self.experiment = folder.experiment()
        self.config = self.experiment.federation
        self.expected, self.at_once = expected, at_once
        self.checkpoint = folder.latest()
        self.memory = self.checkpoint.state.memory
        self.shapes = self.checkpoint.shapes
        self.quorum = Quorum(self.config)
        self.audit = Audit(folder.path / "audit.jsonl", self.checkpoint.run)
        self.downlink = Downlink(self.config.exchange, self.checkpoint.model)
        self._canonical = self.experiment.canonical_json()
        self._hash = self.experiment.hash()
        self._number = self.checkpoint.round
        self._gathered = False
        post = Post(grid)
        self.attendance = Attendance(
            post,
            self.checkpoint.base,
            lambda node: self._task("describe", self._number, f"node-{node}"),
            self.config.deadline_s,
            lambda site, problem, code: self._problem(self._number, site, problem, code),
            self._welcome,
        )
        self.asking = Asking(post, self.attendance, at_once, self._asked_again)

    def run(self) -> None:
        """All rounds that are left, then the final evaluation; metrics.json is kept up to date.

        Raises:
            QuorumError: too few sites answered; everything up to the last whole round is kept.
            StorageError: the disk is full; likewise.
        """
        try:
            with full_disk_named(self.folder.path):
                self._run()
        except (QuorumError, StorageError) as error:
            # On a full disk the reason may not fit either.
            with suppress(OSError, StorageError):
                self._tell("stopped", reason=str(error))
                self._write_metrics("stopped", {})
            raise

    def _run(self) -> None:
        for path in self.checkpoint.damaged:
            self._tell("damaged", checkpoint=path.name, instead=self.checkpoint.round)
        self._tell(
            "start",
            run=self.checkpoint.run,
            round=self.checkpoint.round,
            rounds=self.config.rounds,
        )
        self._gather()
        self._evaluate_if_due()
        for number in range(self.checkpoint.round + 1, self.config.rounds + 1):
            self._number = number
            self._round(number)
            self._evaluate_if_due()
        evaluation = self._evaluate(self.checkpoint.round, probes=True)
        self._hand_out()
        self._tell("finished", round=self.checkpoint.round, model=self.downlink.digest)
        self._write_metrics("finished", evaluation)

    def _gather(self) -> None:
        """Wait for nodes and learn which sites they are."""
        end = time.monotonic() + GATHERING_S
        self.attendance.look(now=True)
        while self.attendance.nodes < self.expected and time.monotonic() < end:
            time.sleep(0.2)
            self.attendance.look(now=True)
        while self.attendance.undecided:
            self.attendance.hear()
            if self.attendance.undecided:
                time.sleep(0.1)
        here = sorted(self.attendance.seats)
        self._tell("roster", sites=here)
        self._gathered = True
        if len(here) < self.config.quorum:
            self._stop("start", here, here)

    def _round(self, number: int) -> None:
        """One round, from the choice of sites to the checkpoint."""
        begin = time.monotonic()
        self.attendance.look(now=True)
        self.attendance.hear()
        asked, meant = self._choose(number)
        scratch = self.folder.path / "scratch"
        with closing(
            Folding(self.config, number, self.shapes, self.memory, len(self._known()), scratch)
        ) as folding:
            self._collect(number, asked, meant, folding)
            if not self.quorum.holds(folding.metrics, meant):
                self._stop(f"round {number}", folding.metrics, meant)
            optimiser = ServerOptimiser(self.checkpoint.arrays, self.config.server_optimiser)
            if (kept := self.checkpoint.folder / OPTIMISER).exists():
                optimiser.load(kept)
            arrays = optimiser.step(folding.result())
        folding.remember()
        missing = [site for site in meant if site not in folding.metrics]
        in_vain = [site for site in asked if site not in folding.metrics]
        for site in self.memory.failed(in_vain, number, self.config.pause_after):
            self._tell("paused", round=number, site=site, failures=self.memory.failures[site])
        seconds = time.monotonic() - begin
        metrics = dict(sorted(folding.metrics.items()))
        # Told before it is saved: a crash between the two repeats the round, and its last telling counts.
        self._tell(
            "round",
            round=number,
            seconds=seconds,
            train_s=min(seconds, training_seconds(metrics.values(), self.at_once)),
            asked=asked,
            missing=missing,
            share=self.quorum.share(metrics, meant),
            late=folding.late,
            bytes_up={site: folding.bytes_up[site] for site in metrics},
            bytes_down={site: folding.bytes_down[site] for site in metrics},
            norms={site: folding.norms[site] for site in metrics},
            cosines=folding.cosines(),
            sites={site: of_site.model_dump() for site, of_site in metrics.items()},
            terms=terms(metrics.values()),
        )
        self.checkpoint = self.folder.save(
            self.checkpoint.state.model_copy(update={"round": number}),
            {
                MODEL: lambda path: write_bytes(path, encode(arrays)),
                OPTIMISER: optimiser.save,
            },
            self.config.keep_checkpoints,
        )
        self.downlink.publish(self.checkpoint.model)

    def _choose(self, number: int) -> tuple[list[str], list[str]]:
        every = self.config.pause_after
        if every and number % every == 0:
            self.attendance.ask_refused_again()
        return choose(
            self.config,
            self.experiment.seed,
            number,
            self._known(),
            self.memory.resting(number, every),
            self.attendance.seats,
        )

    def _known(self) -> set[str]:
        """All sites of the run: those that were ever there, and those that the experiment names."""
        return set(self.memory.failures) | enrolled(self.config)

    def _collect(self, number: int, asked: list[str], meant: list[str], folding: Folding) -> None:
        """Fold what sites answer until the round may close."""
        extensions = iter(range(1, self.config.extend + 1))

        def extend() -> bool:
            times = next(extensions, None)
            if times is not None:
                reason = self.quorum.shortfall(folding.metrics, meant)
                self._tell("extended", round=number, times=times, reason=reason)
            return times is not None

        for arrival in self._ask(
            "train",
            number,
            asked,
            enough=lambda: self.quorum.holds(folding.metrics, meant),
            extend=extend,
        ):
            site, task = arrival.site, arrival.task.task
            # Before it is folded, which empties it.
            content = content_of(arrival.reply.payload)
            if arrival.when == "late" and self.config.late == "drop":
                self.audit.record(site, number, task, content, "late")
                continue
            try:
                folding.take(arrival)
            except ProtocolError as error:
                self.audit.record(site, number, task, content, "refused")
                self._problem(number, site, f"update refused: {error}")
                continue
            self.audit.record(site, number, task, content, "accepted")
            if arrival.when == "time":
                up, norm = folding.bytes_up[site], folding.norms[site]
                self._tell("update", round=number, site=site, bytes_up=up, norm=norm)

    def _evaluate_if_due(self) -> None:
        """An evaluation on the way, also one that a crash prevented."""
        number, every = self.checkpoint.round, self.config.evaluate_every
        if not number or not every or number % every or number == self.config.rounds:
            return
        told = self.folder.events()
        if not any(e["event"] == "evaluation" and e["round"] == number for e in told):
            self._evaluate(number, probes=False)

    def _evaluate(self, number: int, *, probes: bool) -> dict[str, Any]:
        counts: dict[str, EvaluationCounts] = {}
        sites = sorted(
            set(self.memory.failures) - self.memory.resting(number, self.config.pause_after)
        )
        for arrival in self._ask("evaluate", number, sites, probes=probes):
            if arrival.when == "time" and arrival.reply.answer and arrival.reply.answer.evaluation:
                counts[arrival.site] = arrival.reply.answer.evaluation
        evaluation = summary(counts)
        self._tell("evaluation", round=number, federated=evaluation)
        self.folder.evaluated(number, mean_auc(evaluation))
        return evaluation

    def _hand_out(self) -> None:
        """Give every site that is here the last model; another gets it when the run is started again."""
        number, sites = self.checkpoint.round, sorted(self.attendance.seats)
        for arrival in self._ask("finish", number, sites):
            if arrival.reply.answer and arrival.reply.answer.final == self.downlink.digest:
                self._tell("received", round=number, site=arrival.site)
            else:
                self._problem(number, arrival.site, "it has put away another model")

    def _ask(
        self,
        kind: Kind,
        number: int,
        sites: list[str],
        *,
        probes: bool = False,
        **closing_rule: Callable[[], bool],
    ) -> Iterator[Arrival]:
        """Yield each answer that is whole, late ones too; tell of all others."""

        def payload_for(site: str) -> bytes:
            block = self.downlink.block_for(site)
            self.downlink.forget(site)
            return block

        self._tell("asked", round=number, task=kind, sites=sites)
        tasks = [(site, self._task(kind, number, site, probes=probes)) for site in sites]
        silent = set(sites)
        for arrival in self.asking.ask(tasks, payload_for, self.config.deadline_s, **closing_rule):
            site, answer = arrival.site, arrival.reply.answer
            if arrival.when == "time":
                silent.discard(site)
            else:
                of = arrival.task.round
                self._tell(f"answered_{arrival.when}", round=number, site=site, task_round=of)
            if answer is None:
                self._problem(number, site, arrival.reply.problem)
            elif answer.status != "ok":
                self._problem(number, site, answer.status.sentence, answer.status.value)
            elif arrival.when != "again":
                try:
                    check_answer(answer, arrival.task, site)
                except ProtocolError as error:
                    self._problem(number, site, str(error))
                    continue
                self.downlink.learn(site, answer.holds)
                yield arrival
        for site in sorted(silent):
            away = site not in self.attendance.seats
            self._problem(
                number, site, "not connected" if away else "no answer before the deadline"
            )

    def _task(self, kind: Kind, number: int, site: str, *, probes: bool = False) -> Task:
        return Task(
            run=self.checkpoint.run,
            round=number,
            task=f"{kind}-{number}-{site}",
            kind=kind,
            experiment=self._canonical,
            experiment_hash=self._hash,
            probes=probes,
        )

    def _welcome(self, answer: Answer) -> None:
        self.memory.met(answer.site)
        self.downlink.learn(answer.site, answer.holds)
        if self._gathered:
            self._tell("joined", round=self._number, site=answer.site)

    def _asked_again(self, site: str, number: int) -> None:
        self._tell("asked_again", round=number, site=site)

    def _stop(self, when: str, answered: Collection[str], meant: Collection[str]) -> None:
        raise QuorumError(
            self.quorum.shortfall(answered, meant),
            where=when,
            fix=f"Read the sites' problems in {self.folder.path / 'rounds.jsonl'}, mend them and "
            "run again with the same --out; with a lower federation.quorum give a new one",
        )

    def _problem(self, number: int, site: str, problem: str, code: str = "refused") -> None:
        self._tell("problem", round=number, site=site, problem=problem, code=code)

    def _tell(self, kind: str, **values: Any) -> None:
        event = {"event": kind, **values}
        self.folder.log(event)
        self.listener(event)

    def _write_metrics(self, status: str, evaluation: dict[str, Any]) -> None:
        self.folder.write_metrics(
            {
                "name": self.experiment.name,
                "status": status,
                "run": self.checkpoint.run,
                "experiment_hash": self._hash,
                "model_sha256": self.downlink.digest,
                "rounds": self.checkpoint.round,
                "sites": sorted(self.memory.failures),
                "evaluation": {"federated": evaluation},
                **outcome(self.folder.events(), self.checkpoint.base),
            }
        )
