"""Evaluation of a finished model on a whole dataset, as in `mama evaluate`."""

import os
from pathlib import Path
from typing import Any

import torch

from mama.data.ingest.run import Progress, ingest, untold
from mama.data.manifest import MANIFEST, Dataset
from mama.data.studies import Split, Studies
from mama.errors import DataError
from mama.evaluation.features import image_features
from mama.evaluation.predictions import Predictions, balanced, by_pathology, metrics
from mama.evaluation.zero_shot import zero_shot
from mama.exchange.metrics import Label
from mama.final.saved import load_final, read_experiment


def ingested(
    dataset: Path,
    adapter: str | None,
    final: Path,
    cache: Path,
    progress: Progress = untold,
) -> Dataset:
    """Return the dataset itself or, with an adapter, its images ingested into `cache`.

    The cached images have the model's image size. All studies of a raw folder are test studies.

    Raises:
        DataError: there is no ingested dataset and no adapter, or the folder cannot be ingested.
    """
    if adapter is None:
        if dataset.is_dir() and not (dataset / MANIFEST).is_file():
            raise DataError(
                "the folder holds no ingested dataset",
                where=str(dataset),
                fix="Ingest it first, or specify the layout of a raw folder with --adapter",
            )
        return Dataset(dataset)
    experiment = read_experiment(final)
    ingest(
        dataset,
        cache,
        adapter=adapter,
        # The pseudonyms are as temporary as the cache; a fixed key gives a fixed order.
        secret=bytes(32),
        long_side=max(experiment.image.size),
        split=lambda study: "test",
        workers=len(os.sched_getaffinity(0)),
        progress=progress,
    )
    return Dataset(cache)


def scored(dataset: Dataset) -> tuple[Split, Studies]:
    """Return the studies to score: the test split or, if it is empty, the training split.

    Raises:
        DataError: the dataset has no study.
    """
    splits: tuple[Split, Split] = ("test", "train")
    for split in splits:
        if studies := dataset.studies(split):
            return split, studies
    raise DataError("no studies", where=str(dataset.folder), fix="Check the ingest's source")


def answers(
    final: Path, dataset: Dataset, device: torch.device | None = None
) -> dict[Label, Predictions]:
    """Return zero-shot predictions for the studies of `scored`, computed on the CPU by default.

    Raises:
        ModelError: `final` holds no model.
        DataError: the dataset has no study.
    """
    device = device or torch.device("cpu")
    model, experiment = load_final(final)
    _, studies = scored(dataset)
    model.to(device)
    features = image_features(model, dataset, studies, device)
    return zero_shot(model, experiment, studies, features, device)


def evaluate_whole(
    final: Path, dataset: Dataset, device: torch.device | None = None
) -> dict[str, Any]:
    """Return the scored split and the figures per label; null with a reason if labels are missing.

    {"scored": {"split": "test", "studies": 9}, "zero_shot": {"density": {"auc": ...}}}. With
    `evaluation.balanced` the figures are those of the class-balanced subset. If pathology is known
    of a breast, `pathology` scores the predictions of `suspicious` by it.
    """
    split, studies = scored(dataset)
    labelled = answers(final, dataset, device)
    found: list[tuple[str, Predictions]] = [*labelled.items()]
    if any(study.labels.cancer for study in studies):
        found.append(("pathology", by_pathology(labelled["suspicious"], studies)))
    if read_experiment(final).evaluation.balanced:
        found = [(label, balanced(predictions)) for label, predictions in found]
    return {
        "scored": {"split": split, "studies": len(studies)},
        "zero_shot": {label: metrics(predictions) for label, predictions in found},
    }
