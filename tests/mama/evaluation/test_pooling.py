"""Pooled figures of many sites' counts, against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mama.evaluation.pooling import Curve, cells_auc, rates_of, site_auc, summary
from mama.exchange.metrics import BINS, Cell, EvaluationCounts, LabelCounts, Recall


def cell(start: int, stop: int, negatives: int, positives: int) -> Cell:
    return Cell(start=start, stop=stop, negatives=negatives, positives=positives)


@given(
    st.lists(st.tuples(st.integers(0, BINS - 1), st.booleans()), min_size=2, max_size=60).filter(
        lambda units: len({positive for _, positive in units}) == 2
    )
)
@settings(max_examples=60, deadline=None)
def test_ungrouped_counts_have_the_auc_of_scikit_learn(units: list[tuple[int, bool]]) -> None:
    cells = [cell(bin_, bin_ + 1, not positive, positive) for bin_, positive in units]
    bins, truth = zip(*units, strict=True)
    assert cells_auc(cells) == pytest.approx(roc_auc_score(truth, bins))


@pytest.mark.parametrize(
    ("cells", "area"),
    [
        ([], None),
        ([cell(0, 9, 3, 0)], None),
        ([cell(0, 9, 0, 3)], None),
        ([cell(0, 9, 3, 4)], None),  # one cell ranks nothing
        ([cell(0, 9, 3, 4), cell(0, 9, 5, 6)], 0.5),  # pairs in one place count one half
        ([cell(0, 1, 3, 0), cell(1, 2, 0, 4)], 1.0),
        ([cell(1, 2, 3, 0), cell(0, 1, 0, 4)], 0.0),
        ([cell(0, 1, 2, 1), cell(1, 2, 1, 3)], (2 * 0.5 + 3 * 2 + 3 * 0.5) / 12),
        ([cell(0, 2, 0, 4), cell(0, 1, 2, 0)], 0.75),  # two sites' cells: half above, half tied
    ],
)
def test_cells_by_hand(cells: list[Cell], area: float | None) -> None:
    assert cells_auc(cells) == (area if area is None else pytest.approx(area))


def test_a_site_averages_its_classes_that_are_large_enough() -> None:
    perfect, even = [cell(0, 1, 5, 0), cell(1, 2, 0, 5)], [cell(0, 1, 5, 5), cell(1, 2, 5, 5)]
    counts = LabelCounts(histograms={"A": perfect, "B": even, "C": None}, recalls={})
    assert site_auc(counts) == pytest.approx(0.75)
    assert site_auc(LabelCounts(histograms={"A": None}, recalls={})) is None


def answer(cells: list[Cell] | None, **recalls: tuple[int, int] | None) -> EvaluationCounts:
    counts = LabelCounts(
        histograms={"yes": cells},
        recalls={
            name: Recall(correct=pair[0], wrong=pair[1]) if pair else None
            for name, pair in recalls.items()
        },
    )
    return EvaluationCounts(counts={"zero_shot": {"suspicious": counts}})


def test_summary_by_hand() -> None:
    """Each site tells its breasts apart perfectly, but the second site's scores are all higher."""
    low = answer([cell(0, 1, 6, 0), cell(1, 2, 0, 6)], yes=(6, 0), no=(0, 10))
    high = answer([cell(2, 3, 6, 0), cell(3, 4, 0, 6)], yes=(12, 6), no=(30, 0))
    small = answer(None, yes=None, no=(20, 20))
    figures = summary({"b": high, "a": low, "c": small})
    found = figures["zero_shot"]["suspicious"]
    assert found["sites"] == {"a": 1.0, "b": 1.0, "c": None}
    assert list(found["sites"]) == ["a", "b", "c"]  # type: ignore[call-overload]
    assert found["auc"] == 1.0
    assert found["auc_pooled"] == pytest.approx(0.75)  # one of four pairs of halves is inverted
    assert found["balanced_accuracy"] == pytest.approx(np.mean([18 / 24, 50 / 80]))
    assert found["classes"] == {"no": 80, "yes": 24}
    assert "reason" not in found


def test_fewer_than_the_minimum_in_all_give_no_figure() -> None:
    """A site of public films may have cells of one unit."""
    found = summary({"a": answer([cell(0, 1, 9, 0), cell(1, 2, 0, 2)], yes=(2, 0), no=(9, 0))})
    figures = found["zero_shot"]["suspicious"]
    assert (figures["auc"], figures["balanced_accuracy"]) == (None, None)
    assert figures["classes"] == {"no": 9, "yes": 2}


def test_figures_that_no_site_can_give_are_null_with_a_reason() -> None:
    for answers, methods in (
        ({"a": answer(None, yes=None, no=(5, 5))}, ["zero_shot"]),  # probes were not asked for
        ({}, ["zero_shot", "linear_probe"]),
    ):
        figures = summary(answers)
        assert list(figures) == methods
        for labels in figures.values():
            assert list(labels) == ["density", "suspicious"]
            for found in labels.values():
                assert (found["auc"], found["balanced_accuracy"]) == (None, None)
                assert found["reason"] == "no site has enough labelled test studies of each class"


def test_figures_are_freed_of_the_masking() -> None:
    """The mean over many draws of masked labels is the true AUC, unlike the uncorrected mean."""
    random = np.random.default_rng(0)
    kept, moved = 0.75, 0.25
    truth = np.array([False] * 140 + [True] * 60)
    bins = (100 + 20 * truth + 20 * random.normal(size=200)).astype(int)
    exact = roc_auc_score(truth, bins)
    freed, raw = [], []
    for _ in range(300):
        masked = truth ^ (random.random(200) > kept)
        cells = [
            cell(
                int(b),
                int(b) + 1,
                int((~masked & (bins == b)).sum()),
                int((masked & (bins == b)).sum()),
            )
            for b in np.unique(bins)
        ]
        freed.append(Curve(cells, kept, moved).auc())
        raw.append(cells_auc(cells))
    assert np.mean(freed) == pytest.approx(exact, abs=0.02)  # 4 standard errors
    assert np.mean(raw) < exact - 0.08


def test_balanced_accuracy_is_freed_of_the_masking() -> None:
    """80 of 100 positives and 150 of 200 negatives are right; masked counts are expectations."""
    exact = answer([cell(0, 1, 200, 0), cell(1, 2, 0, 100)], yes=(80, 20), no=(150, 50))
    masked = LabelCounts(
        histograms={"yes": None},
        recalls={
            # 0.75 of 80 and 0.25 of the 50 negatives that were answered yes, and so on.
            "yes": Recall(correct=72, wrong=53, mistaken=58),
            "no": Recall(correct=118, wrong=57, mistaken=52),
        },
        kept=0.75,
        moved=0.25,
    )
    cells = exact.counts["zero_shot"]["suspicious"].histograms["yes"]
    both = masked.model_copy(update={"histograms": {"yes": cells}})
    found = summary({"a": EvaluationCounts(counts={"zero_shot": {"suspicious": both}})})
    assert found["zero_shot"]["suspicious"]["balanced_accuracy"] == pytest.approx(0.775, abs=0.01)


def test_classes_that_were_left_out_change_the_rates() -> None:
    recall = Recall(correct=9, wrong=0)
    counts = LabelCounts(
        histograms={},
        recalls={"A": recall, "B": recall, "C": recall, "D": None},
        kept=0.5,
        moved=1 / 6,
    )
    assert rates_of(counts) == (pytest.approx(0.6), pytest.approx(0.2))
