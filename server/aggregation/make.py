"""The aggregation rule that a configuration asks for."""

from pathlib import Path
from typing import assert_never

from mama.config_aggregation import (
    AggregatorConfig,
    KrumConfig,
    SimpleAggregatorConfig,
    TrimmedMeanConfig,
)
from server.aggregation.base import Aggregator, Shapes
from server.aggregation.geometric_median import GeometricMedian
from server.aggregation.krum import Krum
from server.aggregation.mean import WeightedMean
from server.aggregation.median import Median
from server.aggregation.trimmed_mean import TrimmedMean


def make_aggregator(config: AggregatorConfig, shapes: Shapes, scratch: Path) -> Aggregator:
    """A rule for one round.

    Args:
        shapes: of the tensors that sites send in this round.
        scratch: folder for updates on disk, which the rule empties, and removes on `close`; the mean needs none.
    """
    match config:
        case SimpleAggregatorConfig(kind="mean"):
            return WeightedMean(shapes)
        case SimpleAggregatorConfig(kind="median"):
            return Median(shapes, scratch, config.minimum_sites)
        case SimpleAggregatorConfig():
            return GeometricMedian(shapes, scratch, config.minimum_sites)
        case TrimmedMeanConfig():
            return TrimmedMean(shapes, scratch, config)
        case KrumConfig():
            return Krum(shapes, scratch, config)
        case _:
            assert_never(config)
