"""Round loop: sample sites, send them the model, fold their updates, step, checkpoint."""

import time
from contextlib import closing
from typing import Any

from torch import Tensor

from mama.errors import ProtocolError
from mama.exchange.codecs.coding import encode
from mama.exchange.update import Update
from mama.system.files import write_bytes
from mama.system.journal import content_of
from server.aggregation.optimiser import ServerOptimiser
from server.cohort.quorum import Quorum
from server.cohort.sampling import enrolled, sample_sites
from server.report.metrics import terms, training_seconds
from server.report.privacy import noised, spent
from server.round.collect import UpdateCollector
from server.round.collect_secure import collect_secure
from server.round.sites import Delivery, Sites
from server.round.state import RoundState
from server.run.checkpoint import MODEL
from server.run.context import RunContext
from server.run.events import Paused, RoundDone, UpdateAccepted
from server.secagg.protocol import require_maskable

OPTIMISER = "optimiser.safetensors"


class Round:
    """One round of a run, from the choice of sites to the checkpoint.

    Attributes:
        state: of its training tasks; it closes with or without a quorum.
    """

    def __init__(self, run: RunContext, sites: Sites, number: int):
        self._run, self._sites, self._number = run, sites, number
        every = run.experiment.participation.pause_after
        sites.open_round(number, retry_refused=bool(every) and number % every == 0)
        asked, expected = sample_sites(
            run.experiment.participation,
            run.experiment.seed,
            number,
            run.known,
            run.sites.skipped(number, every),
            sites.connected,
        )
        # A member that never connected is missing from the round, but gets no task.
        met = enrolled(run.experiment.participation).union(run.sites.failures)
        self.state = RoundState(
            [site for site in asked if site in met],
            run.experiment.participation.deadline_s,
            slots=run.slots,
            gone_s=run.experiment.participation.gone_s,
            quorum=Quorum(run.experiment.participation, run.members.shares()),
            expected=expected,
            extensions=run.experiment.participation.extend,
        )
        scratch = run.folder.path / "scratch"
        self._updates = UpdateCollector(
            run.experiment, number, run.checkpoint.shapes, run.sites, len(run.known), scratch
        )

    def run(self) -> bool:
        """Run the round; returns False, with model and checkpoint unchanged, without a quorum."""
        begin = time.monotonic()
        run, updates = self._run, self._updates
        if secure := run.experiment.privacy.secure:
            require_maskable(secure, len(self.state.progress))
        with closing(updates):
            for delivery in self._sites.exchange("train", self.state):
                self._take(delivery)
            if not self.state.has_quorum:
                return False
            config = run.experiment.strategy.server_optimiser
            optimiser = ServerOptimiser(run.checkpoint.arrays, config)
            if (kept := run.checkpoint.folder / OPTIMISER).exists():
                optimiser.load(kept)
            arrays = optimiser.step(self._mean())
        updates.remember()
        self._pause_sites_that_failed()
        # Logged before the checkpoint: a crash between the two repeats the round, and its last
        # event counts.
        run.emit(self._event(time.monotonic() - begin))
        run.sites.ledgers = spent(run.folder.history(), run.sites.ledgers)
        run.checkpoint = run.folder.save(
            run.checkpoint.state.model_copy(update={"round": self._number}),
            {MODEL: lambda path: write_bytes(path, encode(arrays)), OPTIMISER: optimiser.save},
            run.experiment.federation.keep_checkpoints,
        )
        self._sites.downlink.publish(run.checkpoint.model)
        return True

    def _take(self, delivery: Delivery) -> None:
        """Fold an update, or note why it does not count."""
        run, site, on_time = self._run, delivery.site, delivery.when == "on_time"
        # Taken here because the exchange drops the payload afterwards.
        content = content_of(delivery.reply.payload)
        if not on_time and run.experiment.participation.late == "drop":
            run.record(site, delivery.task.task, content, "late")
            return
        try:
            self._updates.take(delivery)
        except ProtocolError as error:
            run.record(site, delivery.task.task, content, "refused")
            run.problem(site, f"update refused: {error}")
            if on_time:
                self.state.mark_failed(site)
            return
        run.record(site, delivery.task.task, content, "accepted")
        if delivery.reply.answer:
            self._sites.learn_ledger(delivery.reply.answer)
        if on_time:
            up, norm = self._updates.bytes_up[site], self._updates.norms[site]
            run.emit(UpdateAccepted(round=self._number, site=site, bytes_up=up, norm=norm))

    def _mean(self) -> Update[Tensor]:
        """Return the combined update; empty where secure aggregation came to nothing."""
        if self._run.experiment.privacy.secure is None:
            return self._updates.result()
        mean = collect_secure(self._run, self._sites, self._updates)
        self._updates.lost = mean is None
        return mean or Update({})

    def _pause_sites_that_failed(self) -> None:
        run = self._run
        failed = [site for site in self.state.progress if site not in self._updates.metrics]
        every = run.experiment.participation.pause_after
        for site in run.sites.failed(failed, self._number, every):
            failures = run.sites.failures[site]
            run.emit(Paused(round=self._number, site=site, failures=failures))

    def _event(self, seconds: float) -> RoundDone:
        run, updates, state = self._run, self._updates, self.state
        metrics = dict(sorted(updates.metrics.items()))
        values: dict[str, Any] = {}
        if run.experiment.privacy.mode == "site":
            run.sites.noised = noised_so_far(run) + 1
            values["noised"] = run.sites.noised
        assert state.quorum is not None
        return RoundDone(
            round=self._number,
            seconds=seconds,
            train_s=min(seconds, training_seconds(metrics.values(), run.slots)),
            asked=list(state.progress),
            missing=[site for site in state.expected if site not in metrics],
            share=state.quorum.share(metrics, state.expected),
            late=updates.late,
            lost=updates.lost,
            bytes_up={site: updates.bytes_up[site] for site in metrics},
            bytes_down={site: updates.bytes_down[site] for site in metrics},
            norms={site: updates.norms[site] for site in metrics},
            cosines=updates.cosines(),
            sites={site: of_site.model_dump() for site, of_site in metrics.items()},
            terms=terms(metrics.values()),
            **values,
        )


def noised_so_far(run: RunContext) -> int:
    """Return the number of noised means, from events, checkpoint and newer damaged checkpoints."""
    newest = [int(path.name.removeprefix("round-")) for path in run.checkpoint.damaged[:1]]
    return max([run.sites.noised, noised(run.folder.history()), *newest])
