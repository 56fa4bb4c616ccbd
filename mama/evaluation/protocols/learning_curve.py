"""Linear probes at 1, 10 and 100 % of the labelled training patients (MaMA, section 4)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mama.data.studies import Study
from mama.errors import DataError
from mama.evaluation.figures import FIGURES, Classification
from mama.evaluation.pooling import MINIMUM
from mama.evaluation.predictions import Predictions, Truth, Unit, units_of
from mama.evaluation.protocols.linear_probe import chosen_probe, draw_patients, labelled_units

# Tasks, with the labels that are their truth.
TASKS: dict[str, Truth] = {
    "density": "density",
    "suspicious": "suspicious",
    "pathology": "cancer",
}
# Shares of the patients below all of them, each with draws of these seeds.
SHARES = (0.01, 0.1)
SEEDS = range(5)


class ProbeTask(NamedTuple):
    """Labelled training units of one task, the test units, and the features of both.

    Attributes:
        labelled: training units with a known truth, of two classes at least.
        train_pooled: (images, D) features of the training images.
        units: test units.
        test_pooled: (images, D) features of the test images.
    """

    labelled: list[Unit]
    train_pooled: np.ndarray
    units: list[Unit]
    test_pooled: np.ndarray

    def predictions(self) -> Predictions:
        """Fit all training patients and predict the test units."""
        return self._fitted(self.labelled)

    def curve(self) -> dict[str, Any]:
        """Return figures at each share of SHARES: their mean, least and most over the draws.

        {"0.1": {"patients": 30, "figures": {"auc": {"mean": 0.8, "least": 0.7, "most": 0.85},
        ...}}, ...}. A figure is None, with `reason`, if a draw has one class only.
        """
        return {str(share): self._at(share) for share in SHARES}

    def _at(self, share: float) -> dict[str, Any]:
        draws = [draw_patients(self.labelled, share, seed) for seed in SEEDS]
        scored = [
            Classification(self._fitted(chosen), MINIMUM)
            for chosen in draws
            if len({unit.truth for unit in chosen}) > 1
        ]
        figures = {
            name: _spread([one.value(name) for one in scored], len(draws)) for name in FIGURES
        }
        patients = len({unit.patient for unit in draws[0]})
        found: dict[str, Any] = {"patients": patients, "figures": figures}
        if figures["auc"] is None:
            found["reason"] = (
                "a draw of so few patients has a single class"
                if len(scored) < len(draws)
                else "too few test units of a class"
            )
        return found

    def _fitted(self, chosen: Sequence[Unit]) -> Predictions:
        drawn = chosen_probe(chosen, self.train_pooled, self.units, self.test_pooled)
        return _over(drawn, sorted({str(unit.truth) for unit in self.labelled}))


def probe_tasks(
    train: Sequence[Study],
    train_pooled: np.ndarray,
    test: Sequence[Study],
    test_pooled: np.ndarray,
) -> dict[str, ProbeTask]:
    """Return the tasks of TASKS that the training studies' labels allow to fit.

    Args:
        train: the training studies.
        train_pooled: (images, D) features of their images, in study order.
        test: the test studies.
        test_pooled: (images, D) features of their images, in study order.

    Raises:
        DataError: no task has labels of two classes among the training studies.
    """
    found = {}
    for task, truth in TASKS.items():
        labelled, units = labelled_units(train, truth), units_of(test, truth)
        if len({unit.truth for unit in labelled}) > 1 and units:
            found[task] = ProbeTask(labelled, train_pooled, units, test_pooled)
    if not found:
        raise DataError(
            "no label has two classes among the training studies, so there is nothing to fit",
            where="--protocol linear-probe",
            fix="Ingest a dataset with labels and a training split",
        )
    return found


def _over(predictions: Predictions, classes: Sequence[str]) -> Predictions:
    """Return predictions over all classes; one that was not drawn has probability 0."""
    probabilities = np.zeros((len(predictions.units), len(classes)))
    columns = [classes.index(name) for name in predictions.classes]
    probabilities[:, columns] = predictions.probabilities
    return Predictions(tuple(classes), probabilities, predictions.units)


def _spread(values: Sequence[float | None], draws: int) -> dict[str, float] | None:
    numbers = [value for value in values if value is not None]
    if len(numbers) < draws:
        return None
    return {"mean": float(np.mean(numbers)), "least": min(numbers), "most": max(numbers)}
