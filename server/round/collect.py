"""One round's updates: each is checked, folded and forgotten before the next is fetched."""

from pathlib import Path

from torch import Tensor

from mama.config import Experiment
from mama.errors import ProtocolError
from mama.exchange.codecs.block import Shape
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.update import Update, of_round
from server.aggregation.combine import Combination
from server.aggregation.similarity import Sketch, cosines_to_others, sketch
from server.aggregation.weights import weight_of
from server.round.sites import Delivery
from server.round.validation import check_metrics, check_norm, check_update
from server.run.site_history import SiteHistory

# Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", 2019 (arXiv 1903.03934), section 5.2:
# an update that is s rounds late counts (s + 1)^-a as much, a = 0.5.
STALENESS = 0.5


class UpdateCollector:
    """Updates of a round, folded as they arrive.

    Memory is one model and one update, for any number of sites.

    Args:
        shapes: of the tensors that travel; the round's own are chosen here.
        history: of the run's sites before the round.
        sites: number of sites in the run.
        scratch: folder for rules that keep updates on disk.
    """

    def __init__(
        self,
        experiment: Experiment,
        number: int,
        shapes: dict[str, Shape],
        history: SiteHistory,
        sites: int,
        scratch: Path,
    ):
        self._experiment, strategy = experiment, experiment.strategy
        self.number, self._history = number, history
        self.travelling = of_round(shapes, strategy, number)
        # Norms of fewer tensors are no measure of those of more.
        self._thawed = self.travelling.keys() != of_round(shapes, strategy, number - 1).keys()
        # Under secure aggregation no tensor comes with an answer.
        self._shapes = {} if experiment.privacy.secure else self.travelling
        self._combination = Combination(experiment, self._shapes, scratch, sites)
        self.metrics: dict[str, TrainingMetrics] = {}
        self.norms: dict[str, float | None] = {}
        self._sketches: dict[str, Sketch] = {}
        self.bytes_up: dict[str, int] = {}
        self.bytes_down: dict[str, int] = {}
        self.late: dict[str, int] = {}
        # Whether the round came to nothing although it had its quorum.
        self.lost = False

    def take(self, delivery: Delivery) -> None:
        """Fold the update of a complete answer; a late one counts less, and not for the quorum.

        Raises:
            ProtocolError: the update is invalid, and no part of it counts.
        """
        site, reply = delivery.site, delivery.reply
        if reply.answer is None or reply.answer.training is None:
            raise ProtocolError("answer holds no update", where=site)
        metrics = reply.answer.training
        planned, strategy = self._experiment.federation.local_steps, self._experiment.strategy
        check_metrics(metrics, planned, self._history.studies.get(site))
        update = Update.of(check_update(reply.payload, self._shapes))
        norm = check_norm(update.model, metrics.steps / planned, self._usual(), strategy.norm_limit)
        check_norm(update.variates)
        late_by = self.number - delivery.task.round
        if late_by and site in self.late:
            raise ProtocolError("a second late update in one round", where=site)
        self._combination.fold(site, update, metrics, (late_by + 1) ** -STALENESS)
        if late_by:
            self.late[site] = delivery.task.round
            return
        self.metrics[site], self.norms[site] = metrics, norm if self._shapes else None
        self._sketches[site] = sketch(update.model)
        self.bytes_up[site], self.bytes_down[site] = reply.bytes_up, delivery.bytes_down

    def _usual(self) -> float:
        """Return the norm to compare updates with, 0 for none."""
        if self._experiment.privacy.mode == "site":
            return 0.0  # no site's update may decide whether another's counts
        return self._history.model_norm if self._thawed else self._history.usual_norm

    def cosines(self) -> dict[str, float | None]:
        """Return each update's cosine to the weighted mean of the others."""
        strategy, steps = self._experiment.strategy, self._experiment.federation.local_steps
        weights = {site: weight_of(site, m, strategy, steps) for site, m in self.metrics.items()}
        return cosines_to_others(dict(sorted(self._sketches.items())), weights)

    def remember(self) -> None:
        """Add the round to what the run remembers."""
        studies = {site: metrics.studies for site, metrics in self.metrics.items()}
        if self._thawed:
            self._history.norms = []
        known = [norm for norm in self.norms.values() if norm is not None]
        self._history.answered(studies, known)

    def result(self) -> Update[Tensor]:
        """Return the combined update, float32.

        Raises:
            QuorumError: too few updates for the rule.
        """
        return self._combination.result()

    def close(self) -> None:
        """Free memory and disk."""
        self._combination.close()
