"""The round loop: choose sites, ask them, check and fold what comes back, step, checkpoint, evaluate."""

import time
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from mama.chain import Entry, content_of
from mama.errors import BudgetError, PrivacyError, ProtocolError, QuorumError, StorageError
from mama.evaluation.pooling import summary
from mama.exchange.coding import encode
from mama.exchange.metrics import EvaluationCounts
from mama.files import full_disk_named, write_bytes
from mama.locks import at_work_in
from server.aggregation.optimiser import ServerOptimiser
from server.asking import Arrival
from server.audit import Audit
from server.checkpoint import MODEL
from server.choosing import choose, enrolled
from server.figures import evaluations
from server.folder import Event, RunFolder
from server.folding import Folding
from server.heads import AUDIT, note_losses
from server.masked_folding import MaskedFolding
from server.members import Members
from server.outcome import mean_auc, outcome, terms, training_seconds
from server.privacy import noised, require_small_delta, spent, statement
from server.quorum import Quorum
from server.secure_round import require_maskable
from server.sites import Sites

Listener = Callable[[Event], None]
OPTIMISER = "optimiser.safetensors"
# Before sites that failed are asked again in a round that lacks a quorum.
RETRY_S = 15.0
PRIVATE = "under privacy.mode patient evaluations stay at the sites"


class Federation:
    """One run over one roster of sites.

    Args:
        expected: sites to wait for at the start; fewer may do, if they are a quorum.
        at_once: how many sites work at the same time; 1 where they take turns in one process.
        roster: the federation's signed roster for the sites; None in a simulation without one.
    """

    def __init__(
        self,
        grid: Grid,
        folder: RunFolder,
        listener: Listener,
        *,
        expected: int,
        at_once: int,
        roster: Path | None = None,
    ):
        self.folder, self.listener = folder, listener
        self.experiment = folder.experiment()
        self.config = self.experiment.federation
        self.expected, self.at_once = expected, at_once
        self.checkpoint = folder.latest()
        self.memory = self.checkpoint.state.memory
        self.shapes = self.checkpoint.shapes
        self.members = Members(self.config, roster)
        self.quorum = Quorum(self.config, self.members.shares())
        self.private = self.experiment.privacy.mode == "patient"
        self.audit = Audit(folder.path / AUDIT, self.checkpoint.run)
        ledgers = {site: said["head"] for site, said in self._ledgers().items()}
        self.sites = Sites(
            grid,
            self.experiment,
            self.checkpoint,
            folder.models(self.checkpoint.round),
            self.memory,
            ledgers,
            self._tell,
            lambda arrival: self._note(arrival, content_of(arrival.reply.payload), "refused"),
            at_once,
            roster,
        )

    def run(self) -> None:
        """All rounds that are left, then the final evaluation; metrics.json is kept up to date.

        Raises:
            QuorumError: too few sites answered; everything up to the last whole round is kept.
            PrivacyError: too few sites' budgets allow a round, or delta is too large for so few sites.
            StorageError: the disk is full; what was done is kept.
            ServiceError: another process is at work in the folder.
            IntegrityError: the audit log is not the one that the checkpoint knows.
        """
        try:
            with full_disk_named(self.folder.path), at_work_in(self.folder.path, "run.lock"):
                self._run()
        except (QuorumError, PrivacyError, StorageError) as error:
            # On a full disk the reason may not fit either.
            with suppress(OSError):
                self._tell("stopped", reason=str(error), exit_code=error.exit_code)
                self._write_metrics("stopped", {})
            raise

    def _run(self) -> None:
        if note_losses(self.folder.path, self.checkpoint.state.heads, self.audit, self._tell):
            self.checkpoint = self.folder.anchored(self.checkpoint)
        for path in self.checkpoint.damaged:
            self._tell("damaged", checkpoint=path.name, instead=self.checkpoint.round)
        self._tell(
            "start",
            run=self.checkpoint.run,
            round=self.checkpoint.round,
            rounds=self.config.rounds,
            shares=self.members.shares(),
        )
        if self.experiment.privacy.mode == "site":
            self.memory.noised = self._noised()
            require_small_delta(self.experiment.privacy, max(1, self.expected))
        self.sites.gather(self.expected)
        if self.checkpoint.round:
            self.sites.await_return(self.expected, self._known())
        for _ in range(self.config.extend):
            if self.sites.await_quorum(self.expected):
                break
        if len(self.sites.here) < self.config.quorum:
            self._stop("start", self.sites.here, self.sites.here)
        self._evaluate_if_due()
        for number in range(self.checkpoint.round + 1, self.config.rounds + 1):
            if self._spent():
                problem = "repeated rounds have spent what the last ones were to cost"
                self.sites.problem(number, "all sites", problem, "budget_exhausted")
                break
            if not self._round(number):
                problem = (
                    "too few sites' budgets allow the round; the run ends with the model it has"
                )
                self.sites.problem(number, "all sites", problem, "budget_exhausted")
                break
            self._evaluate_if_due()
        self._require_a_round()
        evaluation = self._evaluate(self.checkpoint.round, probes=True)
        self._hand_out()
        self._tell("finished", round=self.checkpoint.round, model=self.sites.downlink.digest)
        self._write_metrics("finished", evaluation)

    def _ledgers(self) -> dict[str, dict[str, Any]]:
        """The last word of each site's ledger."""
        return spent(self.folder.events(), self.memory.ledgers)

    def _noised(self) -> int:
        """The number of noised means, as the events, the checkpoint and newer damaged ones know."""
        newest = [int(path.name.removeprefix("round-")) for path in self.checkpoint.damaged[:1]]
        return max([self.memory.noised, noised(self.folder.events()), *newest])

    def _spent(self) -> bool:
        """Whether one more mean under site-level privacy would cost more than the planned rounds."""
        site_level = self.experiment.privacy.mode == "site"
        return site_level and self._noised() >= self.config.rounds

    def _spent_by_a_quorum(self, meant: Collection[str]) -> bool:
        """True if a quorum of more than one site says that its patients' budget is spent."""
        return len(self.sites.exhausted) > 1 and self.quorum.holds(self.sites.exhausted, meant)

    def _require_a_round(self) -> None:
        """A model that no round has changed is no outcome.

        Raises:
            QuorumError: secure aggregation lost every round.
            BudgetError: too few sites' budgets allowed the first one.
        """
        rounds = [event for event in self.folder.events() if event["event"] == "round"]
        if not self.checkpoint.round:
            raise BudgetError(
                "too few sites' budgets allow the first round",
                where="privacy",
                fix="Ask the hospitals to raise their budgets and run again, or plan a smaller epsilon for a new --out",
            )
        # Of rounds whose events are lost nothing is known.
        known = {event["round"] for event in rounds}
        if len(known) >= self.checkpoint.round and all(event.get("lost") for event in rounds):
            raise QuorumError(
                f"none of the {len(rounds)} rounds could be unmasked: the model is the one of the start",
                where="privacy.secure",
                fix=f"Read the sites' problems in {self.folder.path / 'rounds.jsonl'}, mend them and give a new --out",
            )

    def _round(self, number: int) -> bool:
        """One round, from the choice of sites to the checkpoint; False if too few sites can pay for it."""
        begin = time.monotonic()
        asked, meant = self._choose(number)
        if secure := self.experiment.privacy.secure:
            require_maskable(secure, len(asked))
        with closing(self._folding(number)) as folding:
            self._collect(number, asked, meant, folding)
            if not self.quorum.holds(folding.metrics, meant):
                if self._spent_by_a_quorum(meant):
                    return False
                self._stop(f"round {number}", folding.metrics, meant)
            optimiser = ServerOptimiser(self.checkpoint.arrays, self.config.server_optimiser)
            if (kept := self.checkpoint.folder / OPTIMISER).exists():
                optimiser.load(kept)
            arrays = optimiser.step(folding.result())
        folding.remember()
        in_vain = [site for site in asked if site not in folding.metrics]
        for site in self.memory.failed(in_vain, number, self.config.pause_after):
            self._tell("paused", round=number, site=site, failures=self.memory.failures[site])
        # Told before it is saved: a crash between the two repeats the round, and its last telling counts.
        seconds = time.monotonic() - begin
        figures = self._figures(seconds, asked, meant, folding)
        if self.experiment.privacy.mode == "site":
            self.memory.noised = figures["noised"] = self._noised() + 1
        self._tell("round", round=number, **figures)
        self.memory.ledgers = self._ledgers()
        self.checkpoint = self.folder.save(
            self.checkpoint.state.model_copy(update={"round": number}),
            {
                MODEL: lambda path: write_bytes(path, encode(arrays)),
                OPTIMISER: optimiser.save,
            },
            self.config.keep_checkpoints,
        )
        self.sites.downlink.publish(self.checkpoint.model)
        return True

    def _folding(self, number: int) -> Folding:
        scratch, sites = self.folder.path / "scratch", len(self._known())
        of_run = (self.experiment, number, self.shapes, self.memory, sites, scratch)
        if self.experiment.privacy.secure is None:
            return Folding(*of_run)
        return MaskedFolding(*of_run, self.checkpoint.run, self.sites, self.audit)

    def _choose(self, number: int) -> tuple[list[str], list[str]]:
        """The sites that are asked, and those that the round is meant to hear."""
        every = self.config.pause_after
        self.quorum = Quorum(self.config, self.members.shares())
        self.sites.begin(number, forgive=bool(every) and number % every == 0)
        asked, meant = choose(
            self.config,
            self.experiment.seed,
            number,
            self._known(),
            self.memory.resting(number, every),
            self.sites.here,
        )
        # A member that never came is missed, and not asked.
        met = enrolled(self.config).union(self.memory.failures)
        return [site for site in asked if site in met], meant

    def _known(self) -> set[str]:
        """All sites of the run."""
        return self.members.sites(self.memory.failures)

    def _collect(self, number: int, asked: list[str], meant: list[str], folding: Folding) -> None:
        """Fold what sites answer until the round may close."""
        extensions = iter(range(1, self.config.extend + 1))

        def enough() -> bool:
            return self.quorum.holds(folding.metrics, meant)

        def extend() -> bool:
            times = next(extensions, None)
            if times is None or self._spent_by_a_quorum(meant):
                return False
            reason = self.quorum.shortfall(folding.metrics, meant)
            self._tell("extended", round=number, times=times, reason=reason)
            return True

        self._take(number, asked, folding, enough, extend)
        while not enough() and extend():
            # All have answered, and too few well: whoever failed may do better in a while.
            time.sleep(min(RETRY_S, self.config.deadline_s))
            again = [site for site in asked if site not in folding.metrics]
            self._take(number, again, folding, enough, extend)

    def _take(
        self,
        number: int,
        asked: list[str],
        folding: Folding,
        enough: Callable[[], bool],
        extend: Callable[[], bool],
    ) -> None:
        for arrival in self.sites.ask("train", number, asked, enough=enough, extend=extend):
            site = arrival.site
            # Before it is folded, which empties it.
            content = content_of(arrival.reply.payload)
            if arrival.when == "late" and self.config.late == "drop":
                self._note(arrival, content, "late")
                continue
            try:
                folding.take(arrival)
            except ProtocolError as error:
                self._note(arrival, content, "refused")
                self.sites.problem(number, site, f"update refused: {error}")
                continue
            self._note(arrival, content, "accepted")
            if arrival.reply.answer:
                self.sites.learn_ledger(arrival.reply.answer)
            if arrival.when == "time":
                up, norm = folding.bytes_up[site], folding.norms[site]
                self._tell("update", round=number, site=site, bytes_up=up, norm=norm)

    def _note(self, arrival: Arrival, content: Entry, outcome: str) -> None:
        """Take down in the audit log what became of an answer."""
        self.audit.record(arrival.site, self.sites.number, arrival.task.task, content, outcome)

    def _figures(
        self, seconds: float, asked: list[str], meant: list[str], folding: Folding
    ) -> dict[str, Any]:
        """What rounds.jsonl says of a round. `train_s` is the time it must take at least to train."""
        metrics = dict(sorted(folding.metrics.items()))
        return {
            "seconds": seconds,
            "train_s": min(seconds, training_seconds(metrics.values(), self.at_once)),
            "asked": asked,
            "missing": [site for site in meant if site not in metrics],
            "share": self.quorum.share(metrics, meant),
            "late": folding.late,
            "lost": folding.lost,
            "bytes_up": {site: folding.bytes_up[site] for site in metrics},
            "bytes_down": {site: folding.bytes_down[site] for site in metrics},
            "norms": {site: folding.norms[site] for site in metrics},
            "cosines": folding.cosines(),
            "sites": {site: of_site.model_dump() for site, of_site in metrics.items()},
            "terms": terms(metrics.values()),
        }

    def _evaluate_if_due(self) -> None:
        """An evaluation on the way, also one that a crash prevented."""
        number, every = self.checkpoint.round, self.config.evaluate_every
        if not number or not every or number % every or number == self.config.rounds:
            return
        told = self.folder.events()
        if not any(e["event"] == "evaluation" and e["round"] == number for e in told):
            self._evaluate(number, probes=False)

    def _evaluate(self, number: int, *, probes: bool) -> dict[str, Any]:
        resting = self.memory.resting(number, self.config.pause_after)
        # Of a site without an update that counted it is not known how large it can be.
        asked = sorted((set(self.memory.studies) & self._known()) - resting)
        # Under patient-level privacy evaluations stay at the sites.
        arrivals = self.sites.ask("evaluate", number, [] if self.private else asked, probes=probes)
        counts: dict[str, EvaluationCounts] = {}
        for site, found in evaluations(arrivals, self.experiment, self.memory.studies, probes):
            if isinstance(found, ProtocolError):
                self.sites.problem(number, site, f"evaluation refused: {found}")
            else:
                counts[site] = found
        evaluation = summary(counts, PRIVATE) if self.private else summary(counts)
        # Choosing the best by figures that are not noised would be another release.
        auc = mean_auc(evaluation) if self.experiment.privacy.mode == "none" else None
        self._tell("evaluation", round=number, federated=evaluation, auc=auc)
        self.folder.evaluated(number, auc)
        return evaluation

    def _hand_out(self) -> None:
        """Give every site that took part and is here the last model; another gets it when the run is started again."""
        number = self.checkpoint.round
        here = set(self.memory.studies).intersection(self.sites.here)
        for arrival in self.sites.ask("finish", number, sorted(here)):
            if arrival.reply.answer and arrival.reply.answer.final == self.sites.downlink.digest:
                self._tell("received", round=number, site=arrival.site)
            else:
                self.sites.problem(number, arrival.site, "it has put away another model")

    def _stop(self, when: str, answered: Collection[str], meant: Collection[str]) -> None:
        raise QuorumError(
            self.quorum.shortfall(answered, meant),
            where=when,
            fix=f"Read the sites' problems in {self.folder.path / 'rounds.jsonl'}, mend them and "
            "run again with the same --out; with a lower federation.quorum give a new one",
        )

    def _tell(self, kind: str, **values: Any) -> None:
        event = {"event": kind, **values}
        self.folder.log(event)
        self.listener(event)

    def _write_metrics(self, status: str, evaluation: dict[str, Any]) -> None:
        events = self.folder.events()
        self.folder.write_metrics(
            {
                "name": self.experiment.name,
                "status": status,
                "run": self.checkpoint.run,
                "experiment_hash": self.experiment.hash(),
                "model_sha256": self.sites.downlink.digest,
                "rounds": self.checkpoint.round,
                "sites": sorted(self.memory.failures),
                "evaluation": {"federated": evaluation},
                "privacy": statement(self.experiment, events, self.memory),
                **outcome(events, self.checkpoint.base),
            }
        )
        self.checkpoint = self.folder.anchored(self.checkpoint)
