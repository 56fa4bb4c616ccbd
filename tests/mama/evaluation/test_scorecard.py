"""A scorecard has the figures of the formulas, for all units, for groups and against a model."""

import json

import numpy as np
import pytest

from mama.data.studies import Image, Labels, Study
from mama.errors import ConfigError
from mama.evaluation import Column
from mama.evaluation.figures import FIGURES, Classification
from mama.evaluation.predictions import Predictions, units_of
from mama.evaluation.scorecard import grouped, groups, scorecard


def study(number: int) -> Study:
    """One patient's exam of both breasts; the left one is suspicious in every other."""
    sides = ("L", "R") if number % 5 else (None,)
    return Study(
        id=f"s{number}",
        patient=f"p{number}",
        split="test",
        images=tuple(
            Image(
                id=f"i{number}{side}", laterality=side, view="CC", height=9, width=9,
                vendor="one" if number < 20 else None,
            )
            for side in sides
        ),
        sentences=(),
        labels=Labels(density="AB"[number % 2], suspicious={"L": number % 2 == 0, "R": False}),
        age="50-59" if number < 30 else None,
    )  # fmt: skip


STUDIES = tuple(study(number) for number in range(1, 61))


def answered(seed: int, names: tuple[str, ...] = ("no", "yes")) -> Predictions:
    random, units = np.random.default_rng(seed), units_of(STUDIES, "suspicious")
    truth = np.array([unit.truth == "yes" for unit in units])
    scores = 1 / (1 + np.exp(-random.normal(size=len(units)) - 1.5 * truth))
    return Predictions(names, np.stack([1 - scores, scores], 1), units)


def test_every_figure_and_its_interval() -> None:
    answers = answered(0)
    card = scorecard(answers)
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["n"] == len(answers.known().units)
    exact = Classification(answers, 3)
    for name in FIGURES:
        found = card["figures"][name]
        assert found["value"] == exact.value(name)
        if name == "ece":  # a bootstrap's interval would not hold what is true
            assert (found["low"], found["high"]) == (None, None)
        else:
            assert found["low"] < found["value"] < found["high"]
    assert card["by_class"]["auc"] == {"yes": card["figures"]["auc"]["value"]}
    assert "against" not in card


def test_against_another_model() -> None:
    one, other = answered(0), answered(1)
    card = scorecard(one, other)["against"]
    assert card == scorecard(one, other)["against"]
    for name in FIGURES:
        values = [Classification(answers, 3).value(name) for answers in (one, other)]
        assert card[name]["other"] == values[1]
        assert card[name]["difference"]["value"] == pytest.approx(values[0] - values[1])
    area = card["auc"]["difference"]
    assert area["low"] < area["value"] < area["high"]


def test_models_of_other_classes_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="answers with the classes no, maybe, the model with"):
        scorecard(answered(0), answered(0, ("no", "maybe")))


def test_groups_are_those_of_the_dataset() -> None:
    answers = answered(0)
    by_side = grouped(answers, STUDIES, Column.SIDE)
    assert set(by_side) == {"L", "R"}
    assert by_side["R"]["reason"] == "all labels are of one class"
    assert by_side["L"]["n"] == 48
    for column, names in (
        (Column.VENDOR, {"one", "unknown"}),
        (Column.AGE, {"50-59", "unknown"}),
        (Column.DENSITY, {"A", "B"}),
    ):
        cards = grouped(answers, STUDIES, column)
        assert set(cards) == names
        assert sum(card["n"] for card in cards.values()) == 96


def test_a_study_of_both_breasts_and_one_without_a_side() -> None:
    units = units_of(STUDIES, "density")
    assert set(groups(units, STUDIES, Column.SIDE)) == {"both", "unknown"}
