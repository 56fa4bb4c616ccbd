"""One round's updates: each is checked, folded and forgotten before the next is fetched."""

from pathlib import Path

from torch import Tensor

from mama.config import Experiment
from mama.errors import ProtocolError
from mama.exchange.block import Shape
from mama.exchange.method import of_round, split
from mama.exchange.metrics import TrainingMetrics
from server.aggregation.combine import Combination
from server.aggregation.weights import weight_of
from server.asking import Arrival
from server.checks import check_metrics, check_norm, check_update
from server.geometry import Sketch, cosines_to_others, sketch
from server.memory import Memory

# Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", 2019 (arXiv 1903.03934), section 5.2: an update that
# is s rounds late counts (s + 1)^-a as much, a = 0.5.
STALENESS = 0.5


class Folding:
    """What came of a round so far. Memory is one model and one update, however many sites there are.

    Args:
        shapes: of the tensors that travel; the round's own are chosen here.
        memory: what the run knows of its sites, as it was before the round.
        sites: how many there are in the run.
        scratch: folder for rules that keep updates on disk.
    """

    def __init__(
        self,
        experiment: Experiment,
        number: int,
        shapes: dict[str, Shape],
        memory: Memory,
        sites: int,
        scratch: Path,
    ):
        config = experiment.federation
        self._config, self._privacy = config, experiment.privacy
        self._number, self._memory = number, memory
        self._shapes = of_round(shapes, config, number)
        # What was usual of fewer tensors says nothing of more.
        self._thawed = self._shapes.keys() != of_round(shapes, config, number - 1).keys()
        self._combination = Combination(config, self._shapes, scratch, sites, self._privacy)
        self.metrics: dict[str, TrainingMetrics] = {}
        self.norms: dict[str, float | None] = {}
        self._sketches: dict[str, Sketch] = {}
        self.bytes_up: dict[str, int] = {}
        self.bytes_down: dict[str, int] = {}
        self.late: dict[str, int] = {}
        # Whether the round came to nothing although it had its quorum.
        self.lost = False

    def take(self, arrival: Arrival) -> None:
        """Fold the update of an answer that is whole; a late one counts less, and not for the quorum.

        Raises:
            ProtocolError: the update is not what it should be. Nothing of it counts.
        """
        site, reply = arrival.site, arrival.reply
        if reply.answer is None or reply.answer.training is None:
            raise ProtocolError("answer holds no update", where=site)
        metrics = reply.answer.training
        planned = self._config.local_steps
        check_metrics(metrics, planned, self._memory.studies.get(site))
        update = check_update(reply.payload, self._shapes)
        model, variates = split(update)
        norm = check_norm(model, metrics.steps / planned, self._usual(), self._config.norm_limit)
        check_norm(variates)
        late_by = self._number - arrival.task.round
        if late_by and site in self.late:
            raise ProtocolError("a second late update in one round", where=site)
        self._combination.fold(site, update, metrics, (late_by + 1) ** -STALENESS)
        if late_by:
            self.late[site] = arrival.task.round
            return
        self.metrics[site], self.norms[site] = metrics, norm
        self._sketches[site] = sketch(model)
        self.bytes_up[site], self.bytes_down[site] = reply.bytes_up, arrival.bytes_down

    def _usual(self) -> float:
        """The length to compare updates with, 0 for none."""
        if self._privacy.mode == "site":
            return 0.0  # no site's update may decide whether another's counts
        return self._memory.model_norm if self._thawed else self._memory.usual_norm

    def cosines(self) -> dict[str, float | None]:
        """Each update's cosine to the mean of the others, by their weights."""
        weights = {site: weight_of(site, m, self._config) for site, m in self.metrics.items()}
        return cosines_to_others(dict(sorted(self._sketches.items())), weights)

    def remember(self) -> None:
        """Add the round to what the run remembers."""
        studies = {site: metrics.studies for site, metrics in self.metrics.items()}
        if self._thawed:
            self._memory.norms = []
        known = [norm for norm in self.norms.values() if norm is not None]
        self._memory.answered(studies, known)

    def result(self) -> dict[str, Tensor]:
        """The combined update, float32.

        Raises:
            QuorumError: too few updates for the rule.
        """
        return self._combination.result()

    def close(self) -> None:
        """Free memory and disk."""
        self._combination.close()
