"""One run, from its start to the final evaluation."""

from contextlib import suppress
from typing import Any

from flwr.serverapp import Grid

from mama.errors import BudgetError, PrivacyError, QuorumError, StorageError
from mama.system.files import full_disk_named
from mama.system.locks import at_work_in
from server.cohort.quorum import Quorum
from server.report.metrics import outcome
from server.report.privacy import require_small_delta, statement
from server.round.evaluation import evaluate, hand_out
from server.round.gathering import await_quorum, await_return, gather
from server.round.loop import Round, noised_so_far
from server.round.sites import Sites
from server.run.context import RunContext
from server.run.events import Damaged, Finished, LogLost, Start, Stopped
from server.run.history import ALL_SITES
from server.run.log_heads import note_losses


class FederatedRun:
    """One run over one roster of sites."""

    def __init__(self, grid: Grid, run: RunContext):
        self._run, self._sites = run, Sites(grid, run)

    def run(self) -> None:
        """Do all rounds that are left, then the final evaluation; metrics.json is kept up to date.

        Raises:
            QuorumError: too few sites answered; everything up to the last whole round is kept.
            PrivacyError: too few sites' budgets allow a round, or delta is too large for so few
            sites.
            StorageError: the disk is full; what was done is kept.
            ServiceError: another process is at work in the folder.
            IntegrityError: the audit log is not the one that the checkpoint knows.
        """
        path = self._run.folder.path
        try:
            with full_disk_named(path), at_work_in(path, "run.lock"):
                self._start()
                self._rounds()
                self._finish()
        except (QuorumError, PrivacyError, StorageError) as error:
            # On a full disk the reason may not fit either.
            with suppress(OSError):
                self._run.emit(Stopped(reason=str(error), exit_code=error.exit_code))
                self._write_metrics("stopped", {})
            raise

    def _start(self) -> None:
        run, sites = self._run, self._sites
        if losses := note_losses(run.folder.path, run.checkpoint.state.heads, run.audit):
            for loss in losses:
                run.emit(LogLost(log=loss.log, lines=loss.lines, left=loss.left))
            run.checkpoint = run.folder.anchored(run.checkpoint)
        for path in run.checkpoint.damaged:
            run.emit(Damaged(checkpoint=path.name, instead=run.checkpoint.round))
        run.emit(
            Start(
                run=run.checkpoint.run,
                round=run.checkpoint.round,
                rounds=run.experiment.federation.rounds,
                shares=run.members.shares(),
            )
        )
        if run.experiment.privacy.mode == "site":
            run.sites.noised = noised_so_far(run)
            require_small_delta(run.experiment.privacy, max(1, run.expected))
        gather(sites, run)
        if run.checkpoint.round:
            await_return(sites, run)
        for _ in range(run.experiment.participation.extend):
            if await_quorum(sites, run):
                break
        if len(sites.connected) < run.experiment.participation.quorum:
            quorum = Quorum(run.experiment.participation, run.members.shares())
            raise self._no_quorum("start", quorum.shortfall(sites.connected, sites.connected))
        # Exact counts would break the guarantee of a private run.
        if not run.checkpoint.round and run.experiment.privacy.mode == "none":
            sites.ask_statistics()

    def _rounds(self) -> None:
        run = self._run
        self._evaluate_if_due()
        planned = run.experiment.federation.rounds
        for number in range(run.checkpoint.round + 1, planned + 1):
            if run.experiment.privacy.mode == "site" and noised_so_far(run) >= planned:
                run.number = number
                problem = "repeated rounds have spent what the last ones were to cost"
                run.problem(ALL_SITES, problem, "budget_exhausted")
                return
            one = Round(run, self._sites, number)
            if not one.run():
                if not one.state.budget_spent:
                    raise self._no_quorum(f"round {number}", one.state.shortfall)
                problem = (
                    "too few sites' budgets allow the round; the run ends with the model it has"
                )
                run.problem(ALL_SITES, problem, "budget_exhausted")
                return
            self._evaluate_if_due()

    def _finish(self) -> None:
        self._require_a_round()
        evaluation = evaluate(self._run, self._sites, probes=True)
        hand_out(self._run, self._sites)
        digest = self._sites.downlink.digest
        self._run.emit(Finished(round=self._run.checkpoint.round, model=digest))
        self._write_metrics("finished", evaluation)

    def _evaluate_if_due(self) -> None:
        """Evaluate between rounds, also where a crash prevented it."""
        run = self._run
        number, every = run.checkpoint.round, run.experiment.federation.evaluate_every
        if not number or not every or number % every or number == run.experiment.federation.rounds:
            return
        if number not in run.folder.history().evaluations:
            evaluate(run, self._sites, probes=False)

    def _require_a_round(self) -> None:
        """Refuse to finish with the initial model.

        Raises:
            QuorumError: secure aggregation lost every round.
            BudgetError: too few sites' budgets allowed the first one.
        """
        run = self._run
        if not run.checkpoint.round:
            raise BudgetError(
                "too few sites' budgets allow the first round",
                where="privacy",
                fix="Ask the hospitals to raise their budgets and run again, or plan a smaller "
                "epsilon for a new --out",
            )
        # Nothing is known of rounds whose events are lost.
        paid = run.folder.history().paid
        known = {event.round for event in paid}
        if len(known) >= run.checkpoint.round and all(event.lost for event in paid):
            raise QuorumError(
                f"none of the {len(paid)} rounds could be unmasked: the model is the one of "
                "the start",
                where="privacy.secure",
                fix=f"Read the sites' problems in {run.folder.path / 'rounds.jsonl'}, mend them "
                "and give a new --out",
            )

    def _no_quorum(self, when: str, shortfall: str) -> QuorumError:
        return QuorumError(
            shortfall,
            where=when,
            fix=f"Read the sites' problems in {self._run.folder.path / 'rounds.jsonl'}, mend them "
            "and run again with the same --out; with a lower participation.quorum give a new one",
        )

    def _write_metrics(self, status: str, evaluation: dict[str, Any]) -> None:
        run = self._run
        history = run.folder.history()
        run.folder.write_metrics(
            {
                "name": run.experiment.name,
                "status": status,
                "run": run.checkpoint.run,
                "experiment_hash": run.experiment.hash(),
                "model_sha256": self._sites.downlink.digest,
                "rounds": run.checkpoint.round,
                "sites": sorted(run.sites.failures),
                "evaluation": {"federated": evaluation},
                "privacy": statement(run.experiment, history, run.sites),
                **outcome(history, run.checkpoint.base),
            }
        )
        run.checkpoint = run.folder.anchored(run.checkpoint)
