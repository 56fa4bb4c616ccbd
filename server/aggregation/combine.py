"""Combination of a round's updates: weights, aggregation rule, and partial work."""

from pathlib import Path

import numpy as np
from torch import Tensor

from mama.config import Experiment
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.update import Update
from server.aggregation.base import Aggregator, Shapes
from server.aggregation.make import make_aggregator
from server.aggregation.partial import PartialWork
from server.aggregation.scaffold import VariateChange
from server.aggregation.weights import weight_of


class Combination:
    """Combination of one round's updates, folded as they arrive; close it in any case.

    The robust rules take updates as they are: a site must not gain by claiming that it did little.

    Args:
        shapes: of the tensors that sites send in this round, SCAFFOLD's variates among them.
        scratch: folder for updates on disk, of this object alone.
        sites: how many there are in the federation, whether they take part in this round or not.
    """

    def __init__(
        self,
        experiment: Experiment,
        shapes: Shapes,
        scratch: Path,
        sites: int,
    ):
        self._strategy = experiment.strategy
        self._local_steps = experiment.federation.local_steps
        parts = Update.of(shapes)
        self._variates = VariateChange(parts.variates, sites) if parts.variates else None
        self._partial = None
        self._rule: Aggregator
        if experiment.privacy.mode == "site":
            # Imported late: Opacus takes seconds to load.
            from server.aggregation.private_mean import NoisedMean

            self._rule = NoisedMean(
                parts.model, experiment.privacy, experiment.federation.rounds, sites
            )
            return
        self._rule = make_aggregator(self._strategy.aggregator, parts.model, scratch)
        if self._strategy.aggregator.kind == "mean":
            self._partial = PartialWork()

    def fold(
        self, site: str, update: Update[np.ndarray], metrics: TrainingMetrics, discount: float = 1.0
    ) -> None:
        """Fold a verified update, without keeping or changing it.

        Args:
            site: its sender.
            update: with changes of the variates under SCAFFOLD.
            metrics: of the site's training; they give the weight.
            discount: factor of the weight, below 1 for a late update.

        Raises:
            ProtocolError: the metrics give no usable weight; the update does not count.
        """
        weight = discount * weight_of(site, metrics, self._strategy, self._local_steps)
        if self._variates:
            self._variates.fold(site, update.variates, weight)
        if self._partial:
            weight = self._partial.weight(weight, metrics.steps / self._local_steps)
        self._rule.fold(site, update.model, weight)

    def result(self) -> Update[Tensor]:
        """Return the combined update, float32; once, after the last `fold`.

        Raises:
            QuorumError: too few updates for the rule.
        """
        combined = self._rule.result()
        factor = self._partial.factor() if self._partial else 1.0
        if factor != 1:
            for tensor in combined.values():
                tensor.mul_(factor)
        return Update(combined, self._variates.result() if self._variates else {})

    def close(self) -> None:
        """Free memory and disk."""
        self._rule.close()
        if self._variates:
            self._variates.close()
