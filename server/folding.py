"""One round's updates: each is checked, folded and forgotten before the next is fetched."""

from pathlib import Path

from torch import Tensor

from mama.config_federation import FederationConfig
from mama.errors import ProtocolError
from mama.exchange.block import Shape
from mama.exchange.method import of_round
from mama.exchange.metrics import TrainingMetrics
from server.aggregation.combine import Combination
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
        config: FederationConfig,
        number: int,
        shapes: dict[str, Shape],
        memory: Memory,
        sites: int,
        scratch: Path,
    ):
        self._config, self._number, self._memory = config, number, memory
        self._shapes = of_round(shapes, config, number)
        self._combination = Combination(config, self._shapes, scratch, sites)
        self.metrics: dict[str, TrainingMetrics] = {}
        self.norms: dict[str, float] = {}
        self._sketches: dict[str, Sketch] = {}
        self.bytes_up: dict[str, int] = {}
        self.bytes_down: dict[str, int] = {}
        self.late: dict[str, int] = {}

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
        norm = check_norm(
            update, metrics.steps / planned, self._memory.usual_norm, self._config.norm_limit
        )
        late_by = self._number - arrival.task.round
        self._combination.fold(site, update, metrics, (late_by + 1) ** -STALENESS)
        if late_by:
            self.late[site] = arrival.task.round
            return
        self.metrics[site], self.norms[site] = metrics, norm
        self._sketches[site] = sketch(update)
        self.bytes_up[site], self.bytes_down[site] = reply.bytes_up, arrival.bytes_down

    def cosines(self) -> dict[str, float | None]:
        """Each update's cosine to the mean of the others, by their studies."""
        studies = {site: float(metrics.studies) for site, metrics in self.metrics.items()}
        return cosines_to_others(dict(sorted(self._sketches.items())), studies)

    def remember(self) -> None:
        """Add the round to what the run remembers."""
        studies = {site: metrics.studies for site, metrics in self.metrics.items()}
        self._memory.answered(studies, self.norms.values())

    def result(self) -> dict[str, Tensor]:
        """The combined update, float32.

        Raises:
            QuorumError: too few updates for the rule.
        """
        return self._combination.result()

    def close(self) -> None:
        """Free memory and disk."""
        self._combination.close()
