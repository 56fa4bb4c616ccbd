"""Probes of fewer patients: nested draws of whole patients, and figures that are their spread."""

import json

import numpy as np
import pytest

from mama.data.studies import Image, Labels, Study
from mama.errors import DataError
from mama.evaluation.figures import Classification
from mama.evaluation.protocols import linear_probe
from mama.evaluation.protocols.learning_curve import SEEDS, probe_tasks
from mama.evaluation.protocols.linear_probe import chosen_probe, draw_patients, labelled_units


def study(number: int, patient: int, cancer: bool | None = None) -> Study:
    images = tuple(
        Image(id=f"i{number}{s}", laterality=s, view="CC", vendor=None, height=9, width=9)
        for s in ("L", "R")
    )
    sick = None if cancer is None else {"L": cancer}
    return Study(
        id=f"s{number}", patient=f"p{patient}", split="train", images=images, sentences=(),
        labels=Labels(density="AB"[patient % 2], cancer=sick),
    )  # fmt: skip


STUDIES = [study(number, number // 2) for number in range(80)]


def pooled(studies: list[Study], noise: float = 0.3) -> np.ndarray:
    """A column that tells density, and eight of noise."""
    random = np.random.default_rng(len(studies))
    dense = [study.labels.density == "B" for study in studies for _ in study.images]
    return np.concatenate(
        [np.array(dense)[:, None] + noise * random.normal(size=(len(dense), 1)),
         random.normal(size=(len(dense), 8))], axis=1,
    )  # fmt: skip


def test_draws_are_whole_patients_and_nested() -> None:
    units = labelled_units(STUDIES, "density")
    for seed in SEEDS:
        few, more = (draw_patients(units, share, seed) for share in (0.1, 0.5))
        assert len({unit.patient for unit in few}) == 4
        assert len(few) == 8  # both studies of each
        assert {unit.study for unit in few} < {unit.study for unit in more}
    assert draw_patients(units, 0.001, 0) != draw_patients(units, 0.001, 1)
    assert len({unit.patient for unit in draw_patients(units, 0.001, 0)}) == 1
    assert draw_patients(units, 1.0, 3) == units


def test_the_figures_of_each_share() -> None:
    test = [study(1000 + number, number) for number in range(40)]
    found = probe_tasks(STUDIES, pooled(STUDIES), test, pooled(test))
    assert list(found) == ["density"]
    predictions, curve = found["density"].predictions(), found["density"].curve()
    assert Classification(predictions, 3).value("auc") == pytest.approx(1.0, abs=0.02)
    assert json.loads(json.dumps(curve, allow_nan=False)) == curve
    assert {share: at["patients"] for share, at in curve.items()} == {"0.01": 1, "0.1": 4}
    assert curve["0.01"]["figures"]["auc"] is None  # one patient has one density
    assert curve["0.01"]["reason"] == "a draw of so few patients has a single class"
    spread = curve["0.1"]["figures"]["auc"]
    if spread is not None:
        assert spread["least"] <= spread["mean"] <= spread["most"]


def test_a_class_that_was_not_drawn_is_never_answered() -> None:
    train = [one.model_copy(update={"labels": Labels(density="ABC"[n // 2 % 3])})
             for n, one in enumerate(STUDIES)]  # fmt: skip
    test = [study(1000 + number, number) for number in range(40)]
    found = probe_tasks(train, pooled(train), test, pooled(test))
    answered = found["density"].predictions()
    assert answered.classes == ("A", "B", "C")
    np.testing.assert_allclose(answered.probabilities.sum(1), 1)


def test_pathology_is_a_task_where_it_is_known() -> None:
    train = [study(number, number, number % 4 == 0) for number in range(40)]
    test = [study(1000 + number, number, number % 4 == 0) for number in range(40)]
    found = probe_tasks(train, pooled(train), test, pooled(test))
    assert list(found) == ["density", "pathology"]
    assert found["pathology"].predictions().classes == ("no", "yes")


def test_nothing_to_fit_is_one_line() -> None:
    unlabelled = [one.model_copy(update={"labels": Labels()}) for one in STUDIES]
    with pytest.raises(DataError, match="no label has two classes among the training studies"):
        probe_tasks(unlabelled, pooled(STUDIES), STUDIES, pooled(STUDIES))


def test_the_penalty_is_chosen_without_the_test_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pure noise beside the signal a strong penalty wins; with none, a weak one."""
    chosen = []
    fitted = linear_probe._fitted
    monkeypatch.setattr(
        linear_probe, "_fitted", lambda c, *rest: chosen.append(c) or fitted(c, *rest)
    )
    units = labelled_units(STUDIES, "density")
    random = np.random.default_rng(0)
    for features in (random.normal(size=(160, 60)), pooled(STUDIES, noise=0.01)):
        for test in (features, np.zeros_like(features)):
            chosen_probe(units, features, units, test)
    assert chosen[0] == chosen[1] == min(linear_probe.STRENGTHS)
    assert chosen[2] == chosen[3] == max(linear_probe.STRENGTHS)


def test_one_patient_of_a_class_leaves_nothing_to_choose_by() -> None:
    units = [unit for unit in labelled_units(STUDIES, "density") if unit.truth == "A"]
    units += [unit for unit in labelled_units(STUDIES, "density") if unit.patient == "p1"]
    found = chosen_probe(units, pooled(STUDIES), units, pooled(STUDIES))
    assert found.classes == ("A", "B")
