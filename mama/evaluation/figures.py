"""Figures of a classification, also under weightings of its units such as draws of a bootstrap.

Of two classes, the second is the positive one; of more, the figures of a class against the rest are
averaged. Every figure is in [0, 1].
"""

from collections.abc import Callable, Iterable

import numpy as np

from mama.evaluation.predictions import Predictions, ranked

# Of a fixed specificity or sensitivity, and equal bins of confidence.
FIXED = 0.9
BINS = 15
# Weighted counts are whole numbers; their ratios are not exact.
ROUNDING = 1e-9


class Classification:
    """Probabilities and truths of units, of which a class with few units is not scored.

    Attributes:
        known: N units with a known truth, of K classes.
        truth: (N,) class numbers.
        classes: the classes that are scored against the rest.

    Args:
        predictions: all answers; only those whose truth is known count.
        minimum: units of a class, and of others, that a figure needs.
    """

    def __init__(self, predictions: Predictions, minimum: int):
        self.known = predictions.known()
        self.truth = self.known.truths()
        self.classes = ranked(self.known.classes, self.truth, minimum)
        counts = np.bincount(self.truth, minlength=len(self.known.classes))
        self.large = np.flatnonzero(counts >= minimum)

    def figures(
        self, names: Iterable[str], weights: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return figures under B weightings, (B,) each; NaN where a class has no unit.

        Args:
            names: of FIGURES.
            weights: (B, N), the times that each unit counts; once each by default.
        """
        weights = self._once() if weights is None else weights.astype(np.float64)
        names = list(names)
        by_class = self._by_class([name for name in names if name in OF_A_CLASS], weights)
        return {
            name: OF_ALL[name](self, weights)
            if name in OF_ALL
            else np.mean([found[name] for found in by_class.values()], axis=0)
            for name in names
        }

    def value(self, name: str) -> float | None:
        """Return the figure of the units as they are; None if no class has enough of them."""
        return float(self.figures([name])[name][0]) if self.classes else None

    def by_class(self) -> dict[str, dict[str, float]]:
        """Return each figure of OF_A_CLASS for each class that is scored."""
        found = self._by_class(OF_A_CLASS, self._once())
        return {
            name: {of: float(figures[name][0]) for of, figures in found.items()}
            for name in OF_A_CLASS
        }

    def _by_class(
        self, names: Iterable[str], weights: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        found = {}
        for k in self.classes:
            # The ranking costs more than the figures, so that they share it.
            ranking = Ranking(self.known.probabilities[:, k], self.truth == k, weights)
            found[self.known.classes[k]] = {name: OF_A_CLASS[name](ranking) for name in names}
        return found

    def _once(self) -> np.ndarray:
        return np.ones((1, len(self.truth)))


class Ranking:
    """Positives and negatives at each distinct score, under B weightings.

    Args:
        scores: (N,).
        positive: (N,) bool.
        weights: (B, N) float64, the times that each unit counts.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray, weights: np.ndarray):
        order = np.argsort(-scores, kind="stable")
        _, starts = np.unique(-scores[order], return_index=True)
        weighted, self._scores = weights[:, order], scores[order][starts]
        self._positives = np.add.reduceat(weighted * positive[order], starts, axis=1)
        self._negatives = np.add.reduceat(weighted * ~positive[order], starts, axis=1)
        # Positives and negatives at this score or a higher one.
        self._above, self._false = self._positives.cumsum(axis=1), self._negatives.cumsum(axis=1)

    def auc(self) -> np.ndarray:
        """Return the area under the ROC curve; ties count one half."""
        below = self._false[:, -1:] - self._false
        with np.errstate(invalid="ignore"):
            won = (self._positives * (below + self._negatives / 2)).sum(axis=1)
            return won / (self._above[:, -1] * self._false[:, -1])

    def auprc(self) -> np.ndarray:
        """Return the average precision, the area under the precision-recall curve as steps."""
        with np.errstate(invalid="ignore"):
            precision = self._above / (self._above + self._false)
            steps = np.where(self._positives > 0, self._positives * precision, 0.0)
            return steps.sum(axis=1) / self._above[:, -1]

    def sensitivity(self, specificity: float = FIXED) -> np.ndarray:
        """Return the largest sensitivity of the thresholds with this specificity at least."""
        positives, negatives = self._above[:, -1], self._false[:, -1]
        allowed = self._false <= (1 - specificity) * negatives[:, None] + ROUNDING
        with np.errstate(invalid="ignore"):
            found = np.where(allowed, self._above, 0.0).max(axis=1) / positives
        return np.where(negatives > 0, found, np.nan)

    def specificity(self, sensitivity: float = FIXED) -> np.ndarray:
        """Return the largest specificity of the thresholds with this sensitivity at least."""
        positives, negatives = self._above[:, -1], self._false[:, -1]
        allowed = self._above >= sensitivity * positives[:, None] - ROUNDING
        with np.errstate(invalid="ignore"):
            found = 1 - np.where(allowed, self._false, np.inf).min(axis=1) / negatives
        return np.where(positives > 0, found, np.nan)

    def pf1(self) -> np.ndarray:
        """Return the probabilistic F1 of scores that are probabilities (Yacouby and Axman 2020)."""
        true, false = self._positives @ self._scores, self._negatives @ self._scores
        positives = self._above[:, -1]
        with np.errstate(invalid="ignore"):
            found = 2 * true / (true + false + positives)
        return np.where(positives > 0, found, np.nan)


def balanced_accuracy(given: Classification, weights: np.ndarray) -> np.ndarray:
    """Return the mean recall of the classes."""
    answers = given.known.probabilities.argmax(1)
    recalls = []
    for k in given.large:
        of_class = given.truth == k
        with np.errstate(invalid="ignore"):
            recalls.append(weights @ (of_class & (answers == k)) / (weights @ of_class))
    return np.mean(recalls, axis=0)


def ece(given: Classification, weights: np.ndarray) -> np.ndarray:
    """Return the expected calibration error of the answers in 15 equal bins (Guo et al. 2017)."""
    probabilities = given.known.probabilities
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == given.truth
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros((len(bins), BINS))
    gaps[np.arange(len(bins)), bins] = correct - confidence
    with np.errstate(invalid="ignore"):
        return np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)


# Figures of one class against the rest.
OF_A_CLASS: dict[str, Callable[[Ranking], np.ndarray]] = {
    "auc": Ranking.auc,
    "auprc": Ranking.auprc,
    "sensitivity_at_90_specificity": Ranking.sensitivity,
    "specificity_at_90_sensitivity": Ranking.specificity,
    "pf1": Ranking.pf1,
}


# Figures of all classes at once.
OF_ALL: dict[str, Callable[[Classification, np.ndarray], np.ndarray]] = {
    "balanced_accuracy": balanced_accuracy,
    "ece": ece,
}
FIGURES = (
    "auc",
    "balanced_accuracy",
    "auprc",
    "sensitivity_at_90_specificity",
    "specificity_at_90_sensitivity",
    "pf1",
    "ece",
)
