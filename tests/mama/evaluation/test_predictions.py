"""Units, truths and exact metrics, which are null with a reason if labels allow none."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mama.data.studies import Image, Labels, Study
from mama.evaluation.predictions import (
    Predictions,
    Unit,
    auc,
    balanced,
    mean_over,
    metrics,
    mismatch,
    units_of,
)


def study(name: str, sides: str, vendor: str | None = "maker", **labels: object) -> Study:
    images = [
        Image(
            id=f"{name}{n}",
            laterality=None if side == "?" else side,
            view=None,
            vendor=vendor,
            height=1,
            width=1,
        )
        for n, side in enumerate(sides)
    ]
    return Study(
        id=name,
        patient="p" + name,
        split="test",
        images=tuple(images),
        sentences=(),
        labels=Labels.model_validate(labels),
    )


STUDIES = [
    study("a", "LRLR", density="C", suspicious={"L": True, "R": False}),
    study("b", "", density="B"),  # no image
    study("c", "R?", vendor=None, suspicious={"L": True}),
    study("d", "?", density="A"),
]


def test_density_is_a_matter_of_studies() -> None:
    assert units_of(STUDIES, "density") == [
        Unit((0, 1, 2, 3), "C", "maker", "a", "pa"),
        Unit((4, 5), None, None, "c", "pc"),
        Unit((6,), "A", "maker", "d", "pd"),
    ]


def test_suspicion_is_a_matter_of_breasts() -> None:
    assert units_of(STUDIES, "suspicious") == [
        Unit((0, 2), "yes", "maker", "a", "pa"),
        Unit((1, 3), "no", "maker", "a", "pa"),
        Unit((4,), None, None, "c", "pc"),
    ]


def test_values_of_a_units_images_are_averaged() -> None:
    values = np.arange(14.0).reshape(7, 2)
    means = mean_over(values, units_of(STUDIES, "suspicious"))
    assert means.tolist() == [[2, 3], [4, 5], [8, 9]]


def predictions(
    truths: list[str | None], scores: list[float], vendors: str | None = None
) -> Predictions:
    units = [
        Unit((n,), truth, vendors[n] if vendors else None, str(n), str(n))
        for n, truth in enumerate(truths)
    ]
    return Predictions(("no", "yes"), np.array([[1 - s, s] for s in scores]).reshape(-1, 2), units)


def test_known_keeps_units_whose_truth_is_a_class() -> None:
    known = predictions(["yes", None, "maybe", "no"], [0.9, 0.8, 0.7, 0.1]).known()
    assert [unit.study for unit in known.units] == ["0", "3"]
    assert known.probabilities[:, 1].tolist() == [0.9, 0.1]
    assert known.truths().tolist() == [1, 0]


def test_exact_figures() -> None:
    truths, scores = ["no", "no", "yes", "yes", None], [0.1, 0.6, 0.4, 0.9, 0.5]
    found = metrics(predictions(truths * 2, scores * 2))
    classes = {"no": 4, "yes": 4}
    assert found == {"auc": 0.75, "balanced_accuracy": 0.5, "n": 8, "classes": classes}


@pytest.mark.parametrize(
    ("truths", "n", "reason"),
    [
        ([], 0, "no labels"),
        ([None], 0, "no labels"),
        (["yes"] * 3, 3, "all labels are of one class"),
        (["yes"] * 2 + ["no"] * 9, 11, "fewer than 3 of a class"),
        (["no"] * 2 + ["yes"] * 9, 11, "fewer than 3 of a class"),
    ],
)
def test_labels_that_allow_no_figure(truths: list[str | None], n: int, reason: str) -> None:
    found = metrics(predictions(truths, [0.5] * len(truths)))
    classes = {name: truths.count(name) for name in ("no", "yes")}
    assert found == {
        "auc": None, "balanced_accuracy": None, "n": n, "classes": classes, "reason": reason
    }  # fmt: skip


def densities(truths: str, classes: str) -> Predictions:
    """Answers that are always right where the truth is a class."""
    units = [Unit((n,), truth, None, str(n), str(n)) for n, truth in enumerate(truths)]
    right = np.array([[float(truth == name) for name in classes] for truth in truths])
    return Predictions(tuple(classes), right, units)


def test_a_small_class_is_in_no_figure() -> None:
    answers = densities("AAAABBBBC", "ABC")
    answers.probabilities[-1] = 1, 0, 0  # the only C is answered wrongly
    found = metrics(answers)
    assert found["balanced_accuracy"] == 1.0
    assert found["auc"] == pytest.approx((0.9 + 1) / 2)  # A has one wrong neighbour of five, tied
    assert found["classes"] == {"A": 4, "B": 4, "C": 1}


def test_labels_of_another_scheme_are_not_scored() -> None:
    """BI-RADS' D, extremely dense, is not MIAS' D, dense-glandular."""
    answers = densities("ABCD" * 5, "DFG")
    assert answers.known().units == []
    found = metrics(answers)
    assert (found["auc"], found["n"]) == (None, 0)
    assert found["reason"] == (
        "the labels are BI-RADS (A, B, C, D), the model's classes MIAS (D, F, G)"
    )
    assert not balanced(answers).units
    assert metrics(densities("FGD" * 5, "ABCD"))["reason"] == (
        "the labels are MIAS (D, F, G), the model's classes BI-RADS (A, B, C, D)"
    )
    assert metrics(densities("AADD" * 5, "AD"))["auc"] == 1.0


@pytest.mark.parametrize(
    ("labels", "classes"), [("D", "ABCD"), ("D", "DFG"), ("", "DFG"), ("AX", "DFG"), ("FG", "XY")]
)
def test_names_that_fit_several_schemes_or_none_are_taken_as_they_are(
    labels: str, classes: str
) -> None:
    assert mismatch(labels, classes) is None


def test_several_classes_give_the_mean_of_those_present() -> None:
    random = np.random.default_rng(0)
    probabilities, truth = random.dirichlet(np.ones(4), 30), random.integers(0, 3, 30)
    expected = np.mean([roc_auc_score(truth == k, probabilities[:, k]) for k in range(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auc(tuple("ABCD"), probabilities, truth) == pytest.approx(expected)
    assert auc(tuple("ABCD"), probabilities, np.zeros(30, int)) is None


def test_a_model_that_tells_vendors_apart_gains_nothing_within_them() -> None:
    """Prevalence differs by vendor; the score is the vendor, and noise within it."""
    truths = ["no", "no", "no", "yes", "no", "yes", "yes", "yes"]
    scores = [0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]
    found = metrics(predictions(truths * 3, scores * 3, "aaaabbbb" * 3))
    assert found["auc"] == 0.75
    assert found["auc_within_vendor"] == 0.5


def test_within_vendor_figures_leave_out_vendors_of_one_class() -> None:
    truths, scores = ["no", "yes", "yes", "yes"] * 3, [0.3, 0.7, 0.1, 0.2] * 3
    assert metrics(predictions(list(truths), scores, "aabb" * 3))["auc_within_vendor"] == 1.0
    split = metrics(predictions(["no", "yes"] * 3, [0.1, 0.9] * 3, "ab" * 3))
    assert split["auc_within_vendor"] is None
    assert "auc_within_vendor" not in metrics(predictions(list(truths), scores, "aaaa" * 3))


def breasts(studies: list[Study]) -> Predictions:
    """Answers for every breast, each with a score that tells which it is."""
    units = units_of(studies, "suspicious")
    scores = [(int(unit.study) * 2 + n % 2) / 1000 for n, unit in enumerate(units)]
    return Predictions(("no", "yes"), np.array([[1 - s, s] for s in scores]), units)


def screening(number: int) -> list[Study]:
    return [
        study(str(n), "LR", suspicious={"L": n % 5 == 0, "R": False} if n % 7 else {})
        for n in range(number)
    ]


def test_a_balanced_subset_has_equally_many_of_each_class() -> None:
    everything = breasts(screening(60))
    found = balanced(everything)
    positives = [unit for unit in everything.units if unit.truth == "yes"]
    assert 2 < len(positives) < len(everything.units) / 4
    assert [unit for unit in found.units if unit.truth == "yes"] == positives
    assert np.bincount(found.truths()).tolist() == [len(positives)] * 2
    assert metrics(found)["n"] == 2 * len(positives)
    rows = [everything.units.index(unit) for unit in found.units]
    assert rows == sorted(set(rows))
    assert (found.probabilities == everything.probabilities[rows]).all()


def test_a_balanced_subset_is_the_same_in_any_order() -> None:
    studies = screening(60)
    order = np.random.default_rng(0).permutation(60)
    first = balanced(breasts(studies)).probabilities[:, 1].tolist()
    shuffled = balanced(breasts([studies[n] for n in order])).probabilities[:, 1].tolist()
    assert first != shuffled
    assert first == sorted(shuffled)


def test_both_breasts_of_a_study_may_be_drawn() -> None:
    found = balanced(
        breasts([study(str(n), "LR", suspicious={"L": n > 50, "R": False}) for n in range(100)])
    )
    drawn = [unit.study for unit in found.units if unit.truth == "no"]
    assert len(set(drawn)) < len(drawn)


def test_a_balanced_subset_leaves_out_unknown_truths_and_classes_that_do_not_occur() -> None:
    random = np.random.default_rng(0)
    truths = ["A", "A", None, "C", "E"]
    units = [Unit((n,), truth, None, str(n), str(n)) for n, truth in enumerate(truths)]
    found = balanced(Predictions(tuple("ABC"), random.dirichlet(np.ones(3), 5), units))
    assert sorted(str(unit.truth) for unit in found.units) == ["A", "C"]
    assert not balanced(predictions([None], [0.5])).units
    assert not balanced(predictions([], [])).units
