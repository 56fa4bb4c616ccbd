"""Figures equal scikit-learn's, or the plain formula, for any scores, ties and weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
    roc_curve,
)

from mama.evaluation.figures import BINS, FIGURES, FIXED, OF_A_CLASS, Classification, Ranking
from mama.evaluation.predictions import Predictions, Unit

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores (N,), often tied or 0 and 1, positives (N,) of both kinds, and weights (1, N)."""
    count = draw(st.integers(2, 40))
    score = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))
    scores = np.array(draw(st.lists(score, min_size=count, max_size=count)))
    flags = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    positive = np.array(flags)
    positive[:2] = [True, False]
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    weights[:2] = [1, 2]
    return scores, positive, weights[None].astype(float)


def by_scikit(name: str, scores: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    if name == "auc":
        return float(roc_auc_score(positive, scores, sample_weight=weight))
    if name == "auprc":
        return float(average_precision_score(positive, scores, sample_weight=weight))
    if name == "pf1":
        # The formula of the RSNA 2023 challenge.
        true = (weight * scores)[positive].sum()
        precision = true / max((weight * scores).sum(), 1e-300)
        recall = true / weight[positive].sum()
        return float(2 * precision * recall / (precision + recall)) if true > 0 else 0.0
    false, found, _ = roc_curve(positive, scores, sample_weight=weight, drop_intermediate=False)
    if name == "sensitivity_at_90_specificity":
        return float(found[false <= 1 - FIXED + 1e-9].max())
    return float(1 - false[found >= FIXED - 1e-9].min())


@pytest.mark.parametrize("name", OF_A_CLASS)
@given(case=cases())
@settings(deadline=None, max_examples=150)
def test_a_class_against_the_rest(name: str, case: Case) -> None:
    scores, positive, weights = case
    found = OF_A_CLASS[name](Ranking(scores, positive, weights))
    assert found.shape == (1,)
    assert found[0] == pytest.approx(by_scikit(name, scores, positive, weights[0]), abs=1e-9)


@pytest.mark.parametrize("name", OF_A_CLASS)
def test_without_positives_or_negatives_there_is_no_figure(name: str) -> None:
    scores, positive = np.array([0.1, 0.4, 0.4]), np.array([True, False, False])
    weights = np.array([[0.0, 1, 1], [1, 0, 0], [1, 1, 0]])
    found = OF_A_CLASS[name](Ranking(scores, positive, weights))
    needs_negatives = name not in ("auprc", "pf1")
    assert np.isnan(found).tolist() == [True, needs_negatives, False]


def answers(probabilities: np.ndarray, truth: np.ndarray) -> Predictions:
    names = tuple("ABCDEFG"[: probabilities.shape[1]])
    units = [Unit((n,), names[k], None, f"s{n}", f"p{n}") for n, k in enumerate(truth)]
    return Predictions(names, probabilities, units)


@st.composite
def classifications(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) and truths (N,), with at least one unit of each class."""
    classes, more = draw(st.integers(2, 5)), draw(st.integers(0, 30))
    truth = [*range(classes), *draw(st.lists(st.integers(0, classes - 1), min_size=more))]
    drawn = np.random.default_rng(draw(st.integers(0, 2**32))).random((len(truth), classes))
    sharp = drawn ** draw(st.sampled_from([0.1, 1, 8]))
    return sharp / sharp.sum(1, keepdims=True), np.array(truth)


@given(case=classifications())
@settings(deadline=None, max_examples=150)
def test_several_classes(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, truth = case
    found = Classification(answers(probabilities, truth), minimum=1)
    scored = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    unweighted = np.ones(len(truth))
    for name in OF_A_CLASS:
        of_each = [by_scikit(name, probabilities[:, k], truth == k, unweighted) for k in scored]
        assert found.value(name) == pytest.approx(np.mean(of_each), abs=1e-9)
        assert list(found.by_class()[name].values()) == pytest.approx(of_each, abs=1e-9)
    said = probabilities.argmax(1)
    assert found.value("balanced_accuracy") == pytest.approx(balanced_accuracy_score(truth, said))
    assert found.value("ece") == pytest.approx(plain_ece(probabilities, truth), abs=1e-9)


def plain_ece(probabilities: np.ndarray, truth: np.ndarray) -> float:
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == truth
    total = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    return float(total)


@pytest.mark.parametrize("name", FIGURES)
def test_a_weighting_counts_a_unit_as_often_as_it_says(name: str) -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 12)
    probabilities = random.random((36, 3)).round(1) + np.eye(3)[truth] * 0.2 + 0.01
    probabilities /= probabilities.sum(1, keepdims=True)
    weights = random.integers(1, 4, (5, 36))
    found = Classification(answers(probabilities, truth), 3).figures([name], weights)[name]
    for row, value in zip(weights, found, strict=True):
        repeated = Classification(
            answers(np.repeat(probabilities, row, axis=0), np.repeat(truth, row)), 3
        )
        assert repeated.value(name) == pytest.approx(value)
        assert 0 <= value <= 1


def test_a_class_with_few_units_is_not_scored() -> None:
    truth = np.array([0] * 5 + [1] * 5 + [2])
    probabilities = np.eye(3)[truth] * 0.5 + 1 / 6
    found = Classification(answers(probabilities, truth), 3)
    assert list(found.by_class()["auc"]) == ["A", "B"]
    alone = Classification(answers(probabilities[:5], truth[:5]), 3)
    assert [alone.value(name) for name in FIGURES] == [None] * len(FIGURES)
