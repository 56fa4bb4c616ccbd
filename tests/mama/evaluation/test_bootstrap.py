"""Intervals of AUCs by patients: the figures of the plain formulas, and they cover what is true."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mama.evaluation.bootstrap import LEAST, Scored, difference, rate
from mama.evaluation.predictions import Predictions, Unit, metrics


def of_breasts(scores: np.ndarray, truth: np.ndarray) -> Predictions:
    """Answers about both breasts of one patient after another; `scores` (N,) are of "yes"."""
    units = [
        Unit((n,), "yes" if sick else "no", None, f"s{n // 2}", f"p{n // 2}")
        for n, sick in enumerate(truth)
    ]
    return Predictions(("no", "yes"), np.stack([1 - scores, scores], axis=1), units)


def drawn(
    random: np.random.Generator, patients: int, sick: int, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores in (0, 1) and truths of both breasts: `sick` patients have one higher by `shift`."""
    truth = np.zeros(2 * patients, dtype=bool)
    truth[2 * np.arange(sick)] = True
    own = np.repeat(random.normal(size=patients), 2) * 0.5
    scores = own + np.sqrt(0.75) * random.normal(size=2 * patients) + shift * truth
    return 1 / (1 + np.exp(-scores)), truth


def test_the_figure_is_the_exact_one_and_lies_within_its_interval() -> None:
    random = np.random.default_rng(1)
    answers = of_breasts(*drawn(random, 60, 25, 1.0))
    figure = Scored(answers).estimate()
    assert figure is not None
    assert figure.low is not None
    assert figure.high is not None
    assert figure.value == pytest.approx(metrics(answers)["auc"])
    assert figure.low < figure.value < figure.high
    assert Scored(answers).estimate() == figure  # no draw changes from call to call


def test_density_is_the_mean_of_its_classes() -> None:
    random = np.random.default_rng(2)
    truth = np.repeat([0, 1, 2], 30)
    scores = random.random((90, 3)) + np.eye(3)[truth] * 0.4
    units = [Unit((n,), "ABC"[k], None, f"s{n}", f"p{n}") for n, k in enumerate(truth)]
    answers = Predictions(("A", "B", "C"), scores / scores.sum(1, keepdims=True), units)
    figure = Scored(answers).estimate()
    assert figure is not None
    assert figure.low is not None
    assert figure.high is not None
    assert figure.value == pytest.approx(metrics(answers)["auc"])
    assert figure.low < figure.value < figure.high


@pytest.mark.parametrize(("sick", "patients"), [(LEAST, 30), (20, 60)])
def test_intervals_cover_the_true_area_and_the_true_difference(sick: int, patients: int) -> None:
    """At least 0.90 of 95 % intervals hold the truth: 80 sets, 2 standard errors below 0.95."""
    random, shift = np.random.default_rng(3), 1.2
    # Normal scores of equal spread: P(X > Y) = Phi(shift / sqrt 2).
    true = 0.80193
    held = {"area": 0, "difference": 0}
    for _ in range(80):
        scores, truth = drawn(random, patients, sick, shift)
        blind, _ = drawn(random, patients, sick, 0.0)
        good, bad = Scored(of_breasts(scores, truth)), Scored(of_breasts(blind, truth))
        figure, gain = good.estimate(), good.gain_over(bad)
        assert figure
        assert gain
        assert None not in (*figure, *gain)
        held["area"] += figure.low <= true <= figure.high  # type: ignore[operator]
        held["difference"] += gain.low <= true - 0.5 <= gain.high  # type: ignore[operator]
    assert held["area"] >= 0.9 * 80, held
    assert held["difference"] >= 0.9 * 80, held


def test_the_difference_is_paired() -> None:
    """Two models that err on the same patients differ by less than their intervals suggest."""
    random = np.random.default_rng(4)
    scores, truth = drawn(random, 60, 30, 1.0)
    better = np.clip(scores + 0.02 * truth, 0, 1)
    one, other = Scored(of_breasts(scores, truth)), Scored(of_breasts(better, truth))
    gain, alone = other.gain_over(one), one.estimate()
    assert gain
    assert alone
    assert None not in (*gain, *alone)
    assert gain.value == pytest.approx(roc_auc_score(truth, better) - roc_auc_score(truth, scores))
    assert 0 < gain.high - gain.low < 0.3 * (alone.high - alone.low)  # type: ignore[operator]


def test_breasts_of_one_patient_are_no_two_patients() -> None:
    """Every unit twice under its patient gives the same interval; as a new patient, narrower."""
    random = np.random.default_rng(5)
    scores, truth = drawn(random, 30, 15, 1.0)
    once = of_breasts(scores, truth)
    twice = [*once.units, *once.units]
    strangers = [
        Unit(u.images, u.truth, u.vendor, "t" + u.study, "q" + u.patient) for u in once.units
    ]
    doubled = np.concatenate([once.probabilities] * 2)
    width = {}
    for name, units in (("alike", twice), ("strangers", [*once.units, *strangers])):
        figure = Scored(Predictions(once.classes, doubled, units)).estimate()
        assert figure
        assert figure.low is not None
        assert figure.high is not None
        width[name] = figure.high - figure.low
    single = Scored(once).estimate()
    assert single
    assert single.low is not None
    assert single.high is not None
    assert width["alike"] == pytest.approx(single.high - single.low)
    assert width["strangers"] < 0.8 * width["alike"]


def test_few_patients_have_a_figure_and_no_interval() -> None:
    random = np.random.default_rng(6)
    few = Scored(of_breasts(*drawn(random, 20, LEAST - 1, 1.0)))
    figure = few.estimate()
    assert figure
    assert (figure.low, figure.high) == (None, None)
    assert few.gain_over(few) == (0.0, None, None)
    none = Scored(of_breasts(*drawn(random, 20, 0, 1.0)))
    assert none.estimate() is None
    assert none.gain_over(none) is None


def test_answers_that_never_vary_bound_nothing() -> None:
    truth = np.arange(60) % 2 == 0
    perfect = Scored(of_breasts(truth * 0.8 + 0.1, truth))
    assert perfect.estimate() == (1.0, None, None)


def test_other_units_are_not_compared() -> None:
    random = np.random.default_rng(7)
    one = Scored(of_breasts(*drawn(random, 20, 10, 1.0)))
    other = Scored(of_breasts(*drawn(random, 21, 10, 1.0)))
    with pytest.raises(ValueError, match="different units"):
        one.gain_over(other)


def test_rates_and_differences_of_patients() -> None:
    """Intervals hold the true mean in 95 % of sets; one over images would be too narrow."""
    random, held, narrow = np.random.default_rng(7), [0, 0], 0
    for _ in range(200):
        own = random.normal(size=40).clip(-2, 2) / 4 + 0.5  # of a patient's five images
        values = np.repeat(own, 5) + random.normal(size=200).clip(-2, 2) / 40
        patients = [f"p{n // 5}" for n in range(200)]
        of_images = rate(values, [f"p{n}" for n in range(200)])
        found = rate(values, patients), difference(values - 0.4, patients)
        for place, (estimate, true) in enumerate(zip(found, (0.5, 0.1), strict=True)):
            assert estimate
            held[place] += estimate.low <= true <= estimate.high  # type: ignore[operator]
        assert of_images
        narrow += of_images.low <= 0.5 <= of_images.high  # type: ignore[operator]
    assert min(held) >= 0.91 * 200, held
    assert narrow <= 0.75 * 200, narrow


def test_rates_of_few_patients_have_no_interval() -> None:
    values = np.array([0.0, 1.0] * 5)
    for figure in (rate, difference):
        assert figure(values, [*"abcdefghi", "a"]) == (0.5, None, None)
        assert figure(np.ones(10), list("abcdefghij")) == (1.0, None, None)
        assert figure(np.full(3, np.nan), list("abc")) is None
        assert figure(np.array([np.nan, 1.0]), list("ab")) == (1.0, None, None)
