"""A site that claims a thousand million studies, and sends its update with the sign turned.

The measure is the cosine of the federation's step to the mean of the honest updates.
"""

from pathlib import Path

import numpy as np
import pytest

from mama.config import Experiment
from mama.config.load import load
from mama.exchange.arrays import Arrays
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.update import Update
from server.aggregation.combine import Combination

CONFIGS = Path(__file__).parents[2] / "configs"
HONEST = ("alder", "birch", "dogwood", "elm")
SHAPE = (1000,)


def honest_updates() -> dict[str, Arrays]:
    """Updates with a direction in common, at a cosine of one half."""
    random = np.random.default_rng(0)
    common = random.standard_normal(SHAPE)
    return {
        site: {"w": (common + random.standard_normal(SHAPE)).astype(np.float32)} for site in HONEST
    }


def claim(number: int) -> TrainingMetrics:
    return TrainingMetrics(
        studies=number, patients=number, steps=20, skipped=0, seconds=1, terms={}
    )


def cosine_of_the_step(experiment: Experiment, scratch: Path) -> float:
    """Four honest sites of 100 studies, and cedar."""
    honest = honest_updates()
    mean = np.mean([update["w"] for update in honest.values()], axis=0)
    combination = Combination(experiment, {"w": SHAPE}, scratch, sites=5)
    combination.fold("cedar", Update({"w": -mean}), claim(10**9))
    for site, update in honest.items():
        combination.fold(site, Update(update), claim(100))
    step = combination.result().model["w"].numpy()
    combination.close()
    return float(step @ mean / np.linalg.norm(step) / np.linalg.norm(mean))


def test_a_claim_does_not_turn_the_step_by_default(tmp_path: Path) -> None:
    assert cosine_of_the_step(load(Experiment, CONFIGS / "mama_vitb.yaml"), tmp_path) > 0.99


@pytest.mark.parametrize("weights", ["studies", "patients"])
def test_a_claim_turns_the_step_where_claims_count(tmp_path: Path, weights: str) -> None:
    over = [f"strategy.weights={weights}"]
    experiment = load(Experiment, CONFIGS / "mama_vitb.yaml", over)
    assert cosine_of_the_step(experiment, tmp_path) < -0.99


@pytest.mark.parametrize("name", ["mama_vitb.yaml", "mama_vitb_288.yaml"])
def test_configurations_for_hospitals_count_no_claims(name: str) -> None:
    assert load(Experiment, CONFIGS / name).strategy.weights == "uniform"
