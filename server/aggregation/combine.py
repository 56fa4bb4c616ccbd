"""One round's updates made one: what each counts, the rule that combines them, and partial work."""

from pathlib import Path

from torch import Tensor

from mama.config import FederationConfig
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.tensors import Arrays
from server.aggregation.base import Shapes
from server.aggregation.make import make_aggregator
from server.aggregation.partial import PartialWork
from server.aggregation.weights import weight_of


class Combination:
    """Folds a round's updates as they arrive; made anew each round, and closed whatever happens.

    The robust rules take updates as they are: a site must not gain by claiming that it did little.

    Args:
        shapes: of the tensors that sites send in this round.
        scratch: folder for updates on disk, of this object alone.
    """

    def __init__(self, config: FederationConfig, shapes: Shapes, scratch: Path):
        self._config = config
        self._rule = make_aggregator(config.aggregator, shapes, scratch)
        self._partial = PartialWork() if config.aggregator.kind == "mean" else None

    def fold(self, site: str, update: Arrays, metrics: TrainingMetrics) -> None:
        """Take a checked update, which is neither kept nor changed.

        Raises:
            ProtocolError: what the site says of its work gives no usable weight; the update does not count.
        """
        weight = weight_of(site, metrics, self._config)
        if self._partial:
            weight = self._partial.weight(weight, metrics.steps / self._config.local_steps)
        self._rule.fold(site, update, weight)

    def result(self) -> dict[str, Tensor]:
        """The combined update, float32; once, after the last `fold`.

        Raises:
            QuorumError: too few updates for the rule.
        """
        combined = self._rule.result()
        factor = self._partial.factor() if self._partial else 1.0
        if factor != 1:
            for tensor in combined.values():
                tensor.mul_(factor)
        return combined

    def close(self) -> None:
        """Free memory and disk."""
        self._rule.close()
