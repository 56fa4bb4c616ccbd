"""Rates and intervals over patients, and the reasons for having none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.evaluation.bootstrap import Estimate, difference, rate
from mama.evaluation.pointing import Score, summary

NAMES = [f"p{n}" for n in range(40)]
NOTHING = {"hit_rate": None, "energy_inside": None, "gain_over_brightest": None}


def score(patient: str, own: float | None, brightest: float = 0.0) -> Score:
    hits = {"fresh_phrase": 1.0, "random": 0.25, "centre": 0.0, "brightest": brightest}
    energies = {"fresh_phrase": 0.5}
    if own is None:
        return Score(patient, "no_sentence", hits, energies)
    return Score(patient, "finding", hits | {"own_sentence": own}, energies | {"own_sentence": own})


def test_no_image_with_a_box_has_a_reason() -> None:
    found = summary([])
    assert found == {
        "images": 0, "patients": 0, "own_sentence_is": {}, **NOTHING,
        "reason": "no image has a box",
    }  # fmt: skip


def test_one_patient_has_a_reason() -> None:
    found = summary([score("a", 1.0), score("a", 0.0)])
    assert found == {
        "images": 2, "patients": 1, "own_sentence_is": {"finding": 2}, **NOTHING,
        "reason": "only one patient",
    }  # fmt: skip


def test_few_patients_have_rates_without_intervals() -> None:
    found = summary([score("a", 1.0, 1.0), score("a", 1.0), score("b", None), score("c", 0.0)])
    assert found["images"] == 4
    assert found["own_sentence_is"] == {"finding": 3, "no_sentence": 1}
    assert list(found["hit_rate"]) == [
        "own_sentence", "fresh_phrase", "random", "centre", "brightest"
    ]  # fmt: skip
    assert found["hit_rate"]["own_sentence"] == {"value": 2 / 3, "low": None, "high": None}
    assert found["hit_rate"]["brightest"]["value"] == 0.25
    assert found["energy_inside"]["fresh_phrase"]["value"] == 0.5
    # Paired: of the three images with a sentence.
    assert found["gain_over_brightest"]["own_sentence"]["value"] == pytest.approx(1 / 3)
    assert found["gain_over_brightest"]["fresh_phrase"]["value"] == 0.75
    assert found["reason"] == "no intervals with fewer than 10 patients"


def test_reports_without_sentences_have_no_figure_of_their_own() -> None:
    found = summary([score(name, None) for name in "abcdefghijkl"])
    assert found["hit_rate"]["own_sentence"] is None
    assert found["gain_over_brightest"]["own_sentence"] is None
    assert "reason" not in found


def test_an_interval_is_students_on_the_patients_error() -> None:
    random = np.random.default_rng(0)
    values = random.choice([-1.0, 0.0, 1.0], 40)
    found = difference(values, NAMES[:40])
    assert found is not None
    half = 2.0227 * values.std() / np.sqrt(40)
    assert found.value == values.mean()
    assert found[1:] == pytest.approx((found.value - half, found.value + half), abs=half / 20)
    assert difference(values, NAMES[:40]) == found  # seeded
    repeated = difference(np.repeat(values, 4), list(np.repeat(NAMES[:40], 4)))
    assert repeated == pytest.approx(found)  # four views of a patient tell no more than one


def test_a_rates_interval_is_that_of_its_logit() -> None:
    values = np.tile([0.0, 1.0, 1.0, 1.0], 10)
    found = rate(values, NAMES[:40])
    assert found is not None
    # The logit of 3/4 has the standard error 1 / sqrt(40 * 3/4 * 1/4).
    half = 2.0227 / np.sqrt(7.5)
    ends = [1 / (1 + np.exp(-(np.log(3) + sign * half))) for sign in (-1, 1)]
    assert found == pytest.approx((0.75, *ends), abs=0.02)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, np.nan]), st.integers(0, 14)), max_size=60)
)
def test_intervals_hold_the_value_and_stay_within_bounds(rows: list[tuple[float, int]]) -> None:
    values, groups = np.array([v for v, _ in rows]), [NAMES[g] for _, g in rows]
    for figure, lowest in ((rate, 0), (difference, -1)):
        found = figure(values, groups)
        assert (found is None) == (not np.isfinite(values).any())
        if found is not None and found.low is not None and found.high is not None:
            assert lowest <= found.low < found.value < found.high <= 1


def test_equal_values_have_no_interval() -> None:
    assert rate(np.ones(30), NAMES[:30]) == Estimate(1.0, None, None)
    assert difference(np.zeros(30), NAMES[:30]) == Estimate(0.0, None, None)
