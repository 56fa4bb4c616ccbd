"""A round's updates made one, from what sites say of their work."""

from pathlib import Path

import numpy as np
import pytest

from mama.config import Experiment
from mama.errors import ProtocolError, QuorumError
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.update import Update
from server.aggregation.combine import Combination

Said = tuple[list[float], dict]


def experiment(strategy: dict, local_steps: int = 20) -> Experiment:
    evaluation = {"density": {"A": ["a"], "B": ["b"]}, "suspicious": {"no": ["a"], "yes": ["b"]}}
    return Experiment.model_validate(
        {
            "name": "combine",
            "image": {"tower": "any", "size": [32, 32]},
            "text": {"tower": "any"},
            "federation": {"local_steps": local_steps},
            "participation": {"quorum": 3},
            "strategy": strategy,
            "evaluation": evaluation,
        }
    )


def combined(tmp_path: Path, strategy: dict, *sites: Said) -> list[float]:
    combination = Combination(experiment(strategy), {"w": (2,)}, tmp_path / "scratch", len(sites))
    try:
        for number, (values, said) in enumerate(sites):
            metrics = {"studies": 10, "patients": 5, "steps": 20, "skipped": 0, "seconds": 1}
            combination.fold(
                f"site-{number}",
                Update({"w": np.float32(values)}),
                TrainingMetrics.model_validate(metrics | {"terms": {"loss": 2.0}} | said),
            )
        return combination.result().model["w"].tolist()
    finally:
        combination.close()
        assert not (tmp_path / "scratch").exists()


def test_weights_and_partial_work_by_hand(tmp_path: Path) -> None:
    whole, part = ([4.0, 8.0], {"studies": 10}), ([3.0, -1.0], {"studies": 30, "steps": 5})
    by_studies = {"weights": "studies"}
    # The plain mean of whole work: (10·4 + 30·3) / 40
    assert combined(tmp_path, by_studies, whole, (part[0], {"studies": 30})) == [3.25, 1.25]
    # 5 of 20 steps: directions 4 and 12, and 8 and -4; mean share 7/16
    assert combined(tmp_path, by_studies, whole, part) == pytest.approx([4.375, -0.4375])


def test_fairness_by_hand(tmp_path: Path) -> None:
    config = {"weights": "uniform", "fairness": 2}
    badly, well = ([1.0, 0.0], {"terms": {"loss": 3.0}}), ([0.0, 1.0], {"terms": {"loss": 1.0}})
    assert combined(tmp_path, config, badly, well) == pytest.approx([0.9, 0.1])


def test_robust_rules_do_not_magnify_who_claims_little_work(tmp_path: Path) -> None:
    config = {"aggregator": {"kind": "median"}, "weights": "uniform"}
    sites = [([value, value], {"steps": 1}) for value in (1.0, 2.0, 900.0)]
    assert combined(tmp_path, config, *sites) == [2, 2]


def test_a_refused_site_does_not_count(tmp_path: Path) -> None:
    combination = Combination(experiment({}, local_steps=4), {"w": (1,)}, tmp_path / "scratch", 2)
    said = {"studies": 1, "patients": 1, "skipped": 0, "seconds": 1, "terms": {}}
    with pytest.raises(ProtocolError):
        combination.fold(
            "a", Update({"w": np.float32([9])}), TrainingMetrics.model_validate(said | {"steps": 5})
        )
    with pytest.raises(QuorumError):
        combination.result()
    combination.fold(
        "b", Update({"w": np.float32([3])}), TrainingMetrics.model_validate(said | {"steps": 4})
    )
    assert combination.result().model["w"].tolist() == [3]


def test_variates_are_folded_by_weight_and_share_of_the_sites_not_by_work(tmp_path: Path) -> None:
    config = experiment({"scaffold": True, "weights": "studies"})
    shapes: dict[str, tuple[int, ...]] = {"w": (1,), "variate/w": (1,)}
    combination = Combination(config, shapes, tmp_path / "scratch", 4)
    said = {"patients": 1, "skipped": 0, "seconds": 1, "terms": {}}
    for site, w, variate, studies, steps in (("a", 4, 8, 10, 20), ("b", 3, -4, 30, 5)):
        update = Update({"w": np.float32([w])}, {"w": np.float32([variate])})
        metrics = TrainingMetrics.model_validate(said | {"studies": studies, "steps": steps})
        combination.fold(site, update, metrics)
    result = combination.result()
    assert result.model["w"].tolist() == pytest.approx([4.375])
    # (10·8 - 30·4) / 40 = -1, by 2 of 4 sites
    assert result.variates["w"].tolist() == [-0.5]
    combination.close()
