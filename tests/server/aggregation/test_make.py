"""Every configuration gives the rule it names."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from mama.config.strategy import AggregatorConfig
from server.aggregation.make import make_aggregator
from server.aggregation.mean import WeightedMean
from server.aggregation.robust.median import Median
from server.aggregation.robust.trimmed_mean import TrimmedMean


@pytest.mark.parametrize(
    ("config", "rule", "on_disk"),
    [
        ({}, WeightedMean, False),
        ({"kind": "median"}, Median, True),
        ({"kind": "trimmed_mean"}, TrimmedMean, True),
    ],
)
def test_rules(tmp_path: Path, config: dict, rule: type, on_disk: bool) -> None:
    read = TypeAdapter(AggregatorConfig).validate_python(config)
    made = make_aggregator(read, {"w": (2,)}, tmp_path / "scratch")
    assert type(made) is rule
    assert (tmp_path / "scratch").exists() == on_disk
    made.close()
    assert not (tmp_path / "scratch").exists()
