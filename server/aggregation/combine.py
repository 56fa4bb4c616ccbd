"""One round's updates made one: what each counts, the rule that combines them, and partial work."""

from pathlib import Path

from torch import Tensor

from mama.config_federation import FederationConfig
from mama.config_privacy import PrivacyConfig
from mama.exchange.arrays import Arrays
from mama.exchange.method import VARIATE, split
from mama.exchange.metrics import TrainingMetrics
from server.aggregation.base import Aggregator, Shapes
from server.aggregation.make import make_aggregator
from server.aggregation.partial import PartialWork
from server.aggregation.scaffold import VariateChange
from server.aggregation.weights import weight_of


class Combination:
    """Folds a round's updates as they arrive; made anew each round, and closed whatever happens.

    The robust rules take updates as they are: a site must not gain by claiming that it did little.

    Args:
        shapes: of the tensors that sites send in this round, SCAFFOLD's variates among them.
        scratch: folder for updates on disk, of this object alone.
        sites: how many there are in the federation, whether they take part in this round or not.
    """

    def __init__(
        self,
        config: FederationConfig,
        shapes: Shapes,
        scratch: Path,
        sites: int,
        privacy: PrivacyConfig | None = None,
    ):
        self._config = config
        model, variates = split(shapes)
        self._variates = VariateChange(variates, sites) if variates else None
        self._partial = None
        self._rule: Aggregator
        if privacy is not None and privacy.mode == "site":
            # Imported late: Opacus takes seconds to load.
            from server.site_privacy import NoisedMean

            self._rule = NoisedMean(model, privacy, config.rounds, sites)
            return
        self._rule = make_aggregator(config.aggregator, model, scratch)
        if config.aggregator.kind == "mean":
            self._partial = PartialWork()

    def fold(
        self, site: str, update: Arrays, metrics: TrainingMetrics, discount: float = 1.0
    ) -> None:
        """Take a checked update, which is neither kept nor changed; a late one's weight has a `discount` below 1.

        Raises:
            ProtocolError: what the site says of its work gives no usable weight; the update does not count.
        """
        weight = discount * weight_of(site, metrics, self._config)
        model, variates = split(update)
        if self._variates:
            self._variates.fold(site, variates, weight)
        if self._partial:
            weight = self._partial.weight(weight, metrics.steps / self._config.local_steps)
        self._rule.fold(site, model, weight)

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
        if self._variates:
            changes = self._variates.result()
            combined |= {VARIATE + name: change for name, change in changes.items()}
        return combined

    def close(self) -> None:
        """Free memory and disk."""
        self._rule.close()
        if self._variates:
            self._variates.close()
