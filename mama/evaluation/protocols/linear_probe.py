"""Linear probes: logistic regression on frozen image features, fitted and tested within a site."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mama.data.studies import Study
from mama.evaluation.predictions import Predictions, Truth, Unit, mean_over, units_of
from mama.exchange.metrics import LABELS, Label

# Inverse strengths of the L2 penalty, and the one where nothing is chosen.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
FIXED = 0.1
FOLDS = 5


def linear_probe(
    train: Sequence[Study],
    train_pooled: np.ndarray,
    test: Sequence[Study],
    test_pooled: np.ndarray,
) -> dict[Label, Predictions]:
    """Fit on the training studies' labels and predict the test studies.

    Labels with a single class are skipped. The penalty is fixed, so that it costs little in a
    round; see `chosen_probe`.

    Args:
        train: the training studies.
        train_pooled: (images, D) features of their images, in study order.
        test: the test studies.
        test_pooled: (images, D) features of their images, in study order.
    """
    answers: dict[Label, Predictions] = {}
    for label in LABELS:
        labelled = labelled_units(train, label)
        units = units_of(test, label)
        if len({unit.truth for unit in labelled}) < 2 or not units:
            continue
        answers[label] = _fitted(FIXED, labelled, train_pooled, units, test_pooled)
    return answers


def chosen_probe(
    labelled: Sequence[Unit], train_pooled: np.ndarray, units: list[Unit], test_pooled: np.ndarray
) -> Predictions:
    """Fit with the penalty that predicts held-out training patients best, and predict `units`.

    It is chosen by the log loss of a cross-validation whose folds keep a patient together; with
    one patient of a class there is nothing to choose by, and it is that of `linear_probe`.

    Args:
        labelled: training units with a known truth, of two classes at least.
        train_pooled: (images, D) features of the training images.
        units: units to predict.
        test_pooled: (images, D) features of their images.
    """
    truths = [str(unit.truth) for unit in labelled]
    patients = [unit.patient for unit in labelled]
    rarest = min(
        len({p for p, t in zip(patients, truths, strict=True) if t == truth})
        for truth in set(truths)
    )
    if rarest < 2:
        return _fitted(FIXED, labelled, train_pooled, units, test_pooled)
    features, folds = mean_over(train_pooled, list(labelled)), min(FOLDS, rarest)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    losses = []
    with warnings.catch_warnings():
        # A fold may lack a class, whose probability is then 0, or its fit may not converge.
        warnings.simplefilter("ignore")
        for strength in STRENGTHS:
            held_out = cross_val_predict(
                _probe(strength), features, truths, groups=patients, cv=split,
                method="predict_proba",
            )  # fmt: skip
            losses.append(log_loss(truths, held_out, labels=sorted(set(truths))))
    best = STRENGTHS[int(np.argmin(losses))]
    return _fitted(best, labelled, train_pooled, units, test_pooled)


def labelled_units(studies: Sequence[Study], label: Truth) -> list[Unit]:
    """Return the units of a label whose truth is known."""
    return [unit for unit in units_of(studies, label) if unit.truth is not None]


def draw_patients(units: Sequence[Unit], share: float, seed: int) -> list[Unit]:
    """Return the units of a random share of the patients, one patient at least.

    A larger share of the same seed contains a smaller one.
    """
    patients = sorted({unit.patient for unit in units})
    order = np.random.default_rng(seed).permutation(len(patients))
    count = max(1, round(share * len(patients)))
    chosen = {patients[number] for number in order[:count]}
    return [unit for unit in units if unit.patient in chosen]


def _probe(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))


def _fitted(
    strength: float,
    labelled: Sequence[Unit],
    train_pooled: np.ndarray,
    units: list[Unit],
    test_pooled: np.ndarray,
) -> Predictions:
    model = _probe(strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(mean_over(train_pooled, list(labelled)), [str(unit.truth) for unit in labelled])
    probabilities = model.predict_proba(mean_over(test_pooled, units))
    return Predictions(tuple(map(str, model.classes_)), probabilities, units)
