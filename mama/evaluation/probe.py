"""Linear probes: logistic regression on frozen image features, fitted and tested inside one site."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mama.data.studies import Study
from mama.evaluation.predictions import Predictions, mean_over, units_of
from mama.exchange.metrics import LABELS, Label


def linear_probe(
    train: list[Study], train_pooled: np.ndarray, test: list[Study], test_pooled: np.ndarray
) -> dict[Label, Predictions]:
    """Fit on the training studies' labels, answer for the test studies; labels of one class are left out.

    Args:
        train_pooled, test_pooled: (images, D) features in study order.
    """
    answers: dict[Label, Predictions] = {}
    for label in LABELS:
        fitting = [unit for unit in units_of(train, label) if unit.truth is not None]
        truths = [str(unit.truth) for unit in fitting]
        units = units_of(test, label)
        if len(set(truths)) < 2 or not units:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(mean_over(train_pooled, fitting), truths)
        probabilities = model.predict_proba(mean_over(test_pooled, units))
        answers[label] = Predictions(tuple(map(str, model.classes_)), probabilities, units)
    return answers
