"""Linear probes: logistic regression on frozen image features, fitted and tested within a site."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mama.data.studies import Study
from mama.evaluation.predictions import Predictions, mean_over, units_of
from mama.exchange.metrics import LABELS, Label


def linear_probe(
    train: Sequence[Study],
    train_pooled: np.ndarray,
    test: Sequence[Study],
    test_pooled: np.ndarray,
) -> dict[Label, Predictions]:
    """Fit on the training studies' labels and predict the test studies.

    Labels with a single class are skipped.

    Args:
        train: the training studies.
        train_pooled: (images, D) features of their images, in study order.
        test: the test studies.
        test_pooled: (images, D) features of their images, in study order.
    """
    answers: dict[Label, Predictions] = {}
    for label in LABELS:
        labelled = [unit for unit in units_of(train, label) if unit.truth is not None]
        truths = [str(unit.truth) for unit in labelled]
        units = units_of(test, label)
        if len(set(truths)) < 2 or not units:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(mean_over(train_pooled, labelled), truths)
        probabilities = model.predict_proba(mean_over(test_pooled, units))
        answers[label] = Predictions(tuple(map(str, model.classes_)), probabilities, units)
    return answers
