"""Weights of updates, from what their sites say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.config.strategy import StrategyConfig
from mama.errors import ProtocolError
from mama.exchange.metrics import LARGEST_LOSS, TrainingMetrics
from server.aggregation.weights import weight_of


def metrics(steps: int = 9, **terms: float) -> TrainingMetrics:
    return TrainingMetrics(
        studies=120, patients=80, steps=steps, skipped=0, seconds=1.0, terms=terms
    )


@pytest.mark.parametrize(
    ("config", "weight"),
    [
        ({}, 1),
        ({"weights": "studies"}, 120),
        ({"weights": "patients"}, 80),
        ({"weights": "steps"}, 9),
        ({"weights": "uniform"}, 1),
        # q-FFL: 120 · 3² and 3^0.5
        ({"weights": "studies", "fairness": 2}, 1080),
        ({"weights": "uniform", "fairness": 0.5}, 3**0.5),
    ],
)
def test_by_hand(config: dict, weight: float) -> None:
    assert weight_of("alder", metrics(loss=3.0), StrategyConfig(**config), 20) == weight


def test_a_site_that_is_served_badly_counts_more() -> None:
    fair = StrategyConfig(weights="uniform", fairness=1)
    badly, well = (weight_of("x", metrics(loss=loss), fair, 20) for loss in (4.0, 1.0))
    assert badly == 4 * well


@pytest.mark.parametrize("terms", [{}, {"image_text": 3.0}, {"loss": 0.0}, {"loss": -2.0}])
def test_without_a_loss_there_is_no_fair_weight(terms: dict[str, float]) -> None:
    assert weight_of("alder", metrics(**terms), StrategyConfig(), 20) == 1
    with pytest.raises(ProtocolError, match="alder: metrics give no usable weight"):
        weight_of("alder", metrics(**terms), StrategyConfig(fairness=1), 20)


@pytest.mark.parametrize("steps", [0, 21, 10**9])
@pytest.mark.parametrize("weights", ["studies", "steps"])
def test_no_steps_and_more_than_asked_for_are_refused(steps: int, weights: str) -> None:
    config = StrategyConfig.model_validate({"weights": weights})
    assert weight_of("alder", metrics(steps=20), config, 20) > 0
    with pytest.raises(ProtocolError, match="alder: metrics state no steps, or more than planned"):
        weight_of("alder", metrics(steps=steps), config, 20)


@given(
    st.floats(-LARGEST_LOSS, LARGEST_LOSS),
    st.floats(0, 5),
    st.sampled_from(["studies", "uniform"]),
    st.data(),
)
def test_hostile_figures_give_a_usable_weight_or_are_refused(
    loss: float, fairness: float, weights: str, data: st.DataObject
) -> None:
    config = StrategyConfig.model_validate({"weights": weights, "fairness": fairness})
    studies = data.draw(st.integers(1, 10**9))
    said = metrics(loss=loss).model_copy(update={"studies": studies})
    try:
        weight = weight_of("alder", said, config, 20)
    except ProtocolError:
        assert fairness > 0
    else:
        assert 1e-18 <= weight <= 1e18
