"""Simple baselines on an ingested dataset that a learned model must exceed."""

import numpy as np
from scipy.ndimage import gaussian_laplace
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mama.data.manifest import Dataset
from mama.data.studies import Study
from mama.evaluation.predictions import Predictions, mean_over, units_of
from mama.exchange.metrics import Label

BINS = 32


def histograms(dataset: Dataset, studies: list[Study]) -> np.ndarray:
    """Return shares of tissue pixels by brightness, (images, 32)."""
    return _per_image(dataset, studies, _histogram)


def histograms_and_texture(dataset: Dataset, studies: list[Study]) -> np.ndarray:
    """Return histograms and the deviation of tissue brightness at eight scales, (images, 40)."""
    return _per_image(dataset, studies, lambda p: np.concatenate([_histogram(p), _texture(p)]))


def blobs(dataset: Dataset, studies: list[Study]) -> np.ndarray:
    """Return the strongest Laplacian-of-Gaussian response at five scales, (images, 5)."""

    def strongest(pixels: np.ndarray) -> np.ndarray:
        image, tissue = pixels / 255.0, pixels > 0
        return np.array(
            [
                (-(s**2) * gaussian_laplace(image, s))[tissue].max()
                for s in (0.7, 1.0, 1.5, 2.0, 3.0)
            ]
        )

    return _per_image(dataset, studies, strongest)


def fitted(
    label: Label,
    train: list[Study],
    train_features: np.ndarray,
    test: list[Study],
    test_features: np.ndarray,
) -> Predictions:
    """Fit logistic regression on the units' mean features of `train`; predict for `test`."""
    fitting = [unit for unit in units_of(train, label) if unit.truth is not None]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
    model.fit(mean_over(train_features, fitting), [str(unit.truth) for unit in fitting])
    units = units_of(test, label)
    probabilities = model.predict_proba(mean_over(test_features, units))
    return Predictions(tuple(map(str, model.classes_)), probabilities, units)


def _per_image(dataset: Dataset, studies: list[Study], feature: object) -> np.ndarray:
    assert callable(feature)
    return np.stack([feature(dataset.pixels(i)) for study in studies for i in study.images])


def _histogram(pixels: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(pixels[pixels > 0], bins=BINS, range=(1, 256))
    return counts / max(1, counts.sum())


def _texture(pixels: np.ndarray) -> np.ndarray:
    image, tissue = pixels / 255.0, pixels > 0
    responses = [gaussian_laplace(image, s)[tissue] for s in (0.7, 1, 1.5, 2, 3, 4, 6, 8)]
    return np.array([response.std() for response in responses])
