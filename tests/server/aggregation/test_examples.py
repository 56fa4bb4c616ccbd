"""Every block of configs/strategies.yaml runs."""

import json
from pathlib import Path

import pytest
import yaml

from tests.server.aggregation.test_methods import SITES, model_after, unchanged

EXAMPLES = yaml.safe_load(
    (Path(__file__).parents[3] / "configs" / "strategies.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_strategy_runs(run_federation, name: str) -> None:
    overrides = [
        f"{section}.{key}={json.dumps(value)}"
        for section, keys in EXAMPLES[name].items()
        for key, value in keys.items()
    ]
    outcome = run_federation(unchanged, "strategy.weights=uniform", *overrides)
    assert outcome.problems == []
    first, last = (model_after(outcome.folder, number) for number in (1, 2))
    assert any((first[tensor] != last[tensor]).any() for tensor in first)
    trained = {site for site, kind, _ in outcome.sent if kind == "train"}
    assert trained <= set(SITES)
    assert len(trained) >= 2
