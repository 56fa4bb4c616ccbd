"""Choice of the aggregation rule by configuration."""

from pathlib import Path
from typing import assert_never

from mama.config.strategy import (
    AggregatorConfig,
    SimpleAggregatorConfig,
    TrimmedMeanConfig,
)
from server.aggregation.base import Aggregator, Shapes
from server.aggregation.mean import WeightedMean
from server.aggregation.robust.median import Median
from server.aggregation.robust.trimmed_mean import TrimmedMean


def make_aggregator(config: AggregatorConfig, shapes: Shapes, scratch: Path) -> Aggregator:
    """Return the aggregation rule for one round.

    Args:
        config: of the rule.
        shapes: of the tensors that sites send in this round.
        scratch: folder for updates on disk, which the rule empties, and removes on `close`; unused
            by the mean.
    """
    match config:
        case SimpleAggregatorConfig(kind="mean"):
            return WeightedMean(shapes)
        case SimpleAggregatorConfig():
            return Median(shapes, scratch, config.minimum_sites)
        case TrimmedMeanConfig():
            return TrimmedMean(shapes, scratch, config)
        case _:
            assert_never(config)
