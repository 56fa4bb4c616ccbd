"""Evaluation counts: no small cell, exact totals, nearly exact AUC, unbiased rounding."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mama.evaluation.counts import histogram, label_counts
from mama.evaluation.pooling import cells_auc
from mama.evaluation.predictions import Predictions, Unit
from mama.exchange.metrics import Cell

SECRET = b"k" * 32


def predictions(
    truths: list[str | None], answers: list[str], classes: tuple[str, ...] = ("no", "yes")
) -> Predictions:
    """Units of these truths, each answered with probability 0.8."""
    units = [Unit((n,), truth, None, f"s{n}", f"p{n}") for n, truth in enumerate(truths)]
    rest = 0.2 / (len(classes) - 1)
    table = [[0.8 if name == answer else rest for name in classes] for answer in answers]
    return Predictions(classes, np.array(table), units)


def side(n: int) -> st.SearchStrategy[list[float]]:
    return st.lists(
        st.floats(0, 1) | st.sampled_from([0.0, 0.3, 0.5, 1.0]), min_size=n, max_size=40
    )


@given(st.data(), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_no_cell_is_small_and_totals_and_auc_are_kept(data: st.DataObject, minimum: int) -> None:
    negative, positive = data.draw(side(minimum)), data.draw(side(minimum))
    truth = np.array([False] * len(negative) + [True] * len(positive))
    scores = np.array(negative + positive)
    cells = histogram(scores, truth, minimum)
    assert cells is not None
    for cell in cells:
        for count in (cell.negatives, cell.positives):
            assert count == 0 or count >= minimum
    assert all(a.stop <= b.start for a, b in pairwise(cells))
    assert sum(cell.negatives for cell in cells) == len(negative)
    assert sum(cell.positives for cell in cells) == len(positive)
    tied = sum(cell.negatives * cell.positives for cell in cells)
    bound = tied / 2 / len(negative) / len(positive)
    area = cells_auc(cells)
    if len(cells) == 1:
        assert area is None
        return
    assert area is not None
    assert abs(area - roc_auc_score(truth, scores)) <= bound + 1e-9


def tied_pairs(counts: list[tuple[int, int]]) -> int:
    return sum(negatives * positives for negatives, positives in counts)


def fewest_tied(bins: list[tuple[int, int]], minimum: int) -> int:
    """By trying every way to merge neighbouring bins."""
    best = []
    for number in range(len(bins)):
        for cuts in combinations(range(1, len(bins)), number):
            edges = [0, *cuts, len(bins)]
            merged = [tuple(map(sum, zip(*bins[a:b], strict=True))) for a, b in pairwise(edges)]
            if all(c == 0 or c >= minimum for cell in merged for c in cell):
                best.append(tied_pairs(merged))
    return min(best)


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(any), min_size=1, max_size=7
    ).filter(lambda bins: min(sum(b[0] for b in bins), sum(b[1] for b in bins)) >= 3)
)
@settings(max_examples=60, deadline=None)
def test_cells_tie_as_few_pairs_as_possible(bins: list[tuple[int, int]]) -> None:
    scores, truth = [], []
    for place, (negatives, positives) in enumerate(bins):
        scores += [1 / (1 + np.exp(3 - place))] * (negatives + positives)
        truth += [False] * negatives + [True] * positives
    cells = histogram(np.array(scores), np.array(truth), 3)
    assert cells is not None
    found = tied_pairs([(cell.negatives, cell.positives) for cell in cells])
    assert found == fewest_tied(bins, 3)


def test_a_pinned_histogram() -> None:
    """Logits -8, -1, 0, 1 and 8 and beyond lie in bins 0, 112, 128, 144 and 255."""
    logits = np.array([-20, -8, -1, -1, 0, 0, 1, 1, 8, 20.0])
    truth = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1, 1], dtype=bool)
    scores = 1 / (1 + np.exp(-logits))
    assert histogram(scores, truth, 1) == [
        Cell(start=0, stop=1, negatives=2, positives=0),
        Cell(start=1, stop=113, negatives=1, positives=1),
        Cell(start=113, stop=129, negatives=1, positives=1),
        Cell(start=129, stop=145, negatives=0, positives=2),
        Cell(start=145, stop=256, negatives=0, positives=2),
    ]
    merged = histogram(scores, truth, 2)
    assert merged is not None
    assert [(cell.negatives, cell.positives) for cell in merged] == [(2, 0), (2, 2), (0, 2), (0, 2)]
    assert cells_auc(merged) == pytest.approx(1 - 2 * 2 / 2 / 24)


@pytest.mark.parametrize(("negatives", "positives"), [(4, 9), (9, 4), (0, 9)])
def test_too_few_of_one_side_give_no_histogram(negatives: int, positives: int) -> None:
    truth = np.array([False] * negatives + [True] * positives)
    scores = np.linspace(0, 1, len(truth))
    assert histogram(scores, truth, 5) is None
    assert (histogram(scores, truth, 4) is None) == (negatives == 0)


def recall(
    correct: int, wrong: int, minimum: int, secret: bytes = SECRET
) -> tuple[int, int] | None:
    truths: list[str | None] = ["yes"] * (correct + wrong) + ["no"] * 10
    answers = ["yes"] * correct + ["no"] * wrong + ["no"] * 10
    counts = label_counts(predictions(truths, answers), minimum, secret)
    assert counts is not None
    assert counts.recalls["no"] is not None
    found = counts.recalls["yes"]
    return None if found is None else (found.correct, found.wrong)


@pytest.mark.parametrize(
    ("correct", "wrong", "expected"), [(7, 5, (7, 5)), (5, 0, (5, 0)), (0, 6, (0, 6)), (2, 2, None)]
)
def test_large_counts_are_exact_and_small_classes_absent(
    correct: int, wrong: int, expected: tuple[int, int] | None
) -> None:
    assert recall(correct, wrong, 5) == expected


def test_small_counts_are_rounded_without_bias() -> None:
    drawn = [recall(2, 9, 5, bytes([n % 256, n // 256])) for n in range(600)]
    rounded = [counts[0] for counts in drawn if counts]
    assert set(rounded) == {0, 5}
    assert np.mean(rounded) == pytest.approx(2, abs=0.35)  # 3.5 standard errors


def test_asking_again_tells_nothing_new() -> None:
    answers = {recall(3, 8, 5) for _ in range(5)}
    assert len(answers) == 1


def test_every_recall_figure_is_zero_or_large() -> None:
    for correct in range(8):
        for wrong in range(5 - min(correct, 5), 8):
            for secret in (b"a", b"b", b"c"):
                found = recall(correct, wrong, 5, secret)
                assert found is not None
                assert all(count == 0 or count >= 5 for count in found)


def test_two_classes_have_one_histogram_and_more_have_one_each() -> None:
    two = label_counts(predictions(["no", "yes"] * 5, ["no", "yes"] * 5), 5, SECRET)
    three = label_counts(predictions(list("ABC") * 5, list("ABC") * 5, tuple("ABC")), 5, SECRET)
    assert two is not None
    assert three is not None
    assert (two.histograms.keys(), two.recalls.keys()) == ({"yes"}, {"no", "yes"})
    assert three.histograms.keys() == three.recalls.keys() == {"A", "B", "C"}


def test_units_without_a_known_truth_do_not_count() -> None:
    truths: list[str | None] = ["no", "yes"] * 5
    answers = ["no", "yes"] * 5
    known = label_counts(predictions(truths, answers), 5, SECRET)
    more = label_counts(predictions([*truths, None, "E"], [*answers, "yes", "no"]), 5, SECRET)
    assert known == more
    assert label_counts(predictions([None, "E"], ["no", "yes"]), 5, SECRET) is None


def test_a_rounded_recall_cannot_be_undone() -> None:
    for number in range(20):
        found = recall(2, 9, 5, bytes([number]))
        assert found is not None
        assert sum(found) == 11  # so that no other figure says more


def test_a_small_class_cannot_be_inferred_from_the_others() -> None:
    truths: list[str | None] = [*"A" * 9, *"B" * 8, *"C" * 2]
    counts = label_counts(predictions(truths, [*"A" * 10, *"B" * 9], tuple("ABC")), 5, SECRET)
    assert counts is not None
    assert counts.histograms["C"] is None
    cells = counts.histograms["A"]
    assert cells is not None
    units = sum(cell.negatives + cell.positives for cell in cells)
    assert units - 9 - 8 == 0
