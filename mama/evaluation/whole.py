"""Evaluate a finished model on a whole dataset, as `mama evaluate` does."""

import os
from pathlib import Path
from typing import Any

import torch

from mama.data.ingest import ingest
from mama.data.manifest import Dataset
from mama.errors import DataError
from mama.evaluation.features import image_features
from mama.evaluation.predictions import Predictions, balanced, metrics
from mama.evaluation.zero_shot import zero_shot
from mama.exchange.metrics import Label
from mama.export import load_final, read_experiment


def ingested(dataset: Path, adapter: str | None, final: Path, cache: Path) -> Dataset:
    """The dataset itself or, with an adapter, its images ingested into `cache` as the model needs them."""
    if adapter is None:
        return Dataset(dataset)
    experiment = read_experiment(final)
    ingest(
        dataset,
        cache,
        adapter=adapter,
        # The pseudonyms end with the temporary cache; a fixed key gives a fixed order.
        secret=bytes(32),
        long_side=max(experiment.image.size),
        split=lambda study: "test",
        workers=len(os.sched_getaffinity(0)),
    )
    return Dataset(cache)


def answers(final: Path, dataset: Dataset) -> dict[Label, Predictions]:
    """Zero-shot predictions for the test studies or, where none are set apart, for all studies.

    Raises:
        ModelError: `final` holds no model.
        DataError: the dataset has no study.
    """
    model, experiment = load_final(final)
    studies = dataset.studies("test") or list(dataset.manifest.studies)
    if not studies:
        raise DataError("no studies", where=str(dataset.folder), fix="Check what was ingested")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    features = image_features(model, dataset, studies, device)
    return zero_shot(model, experiment, studies, features, device)


def evaluate_whole(final: Path, dataset: Dataset) -> dict[str, Any]:
    """Figures by label: {"zero_shot": {"density": {"auc": ...}}}; null with a reason where labels lack.

    With `evaluation.balanced` they are those of the class-balanced subset.
    """
    found = answers(final, dataset)
    if read_experiment(final).evaluation.balanced:
        found = {label: balanced(predictions) for label, predictions in found.items()}
    return {"zero_shot": {label: metrics(predictions) for label, predictions in found.items()}}
