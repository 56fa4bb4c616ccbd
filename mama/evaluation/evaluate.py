"""Evaluation of a finished model on a whole dataset, as in `mama evaluate`."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mama.data.ingest.run import Progress, ingest, untold
from mama.data.manifest import MANIFEST, Dataset
from mama.data.studies import Split, Studies
from mama.errors import ConfigError, DataError
from mama.evaluation import Column, Protocol
from mama.evaluation.features import image_features
from mama.evaluation.pointing import pointing
from mama.evaluation.predictions import Predictions, balanced, by_pathology, metrics
from mama.evaluation.protocols.learning_curve import probe_tasks
from mama.evaluation.protocols.retrieval import retrieval
from mama.evaluation.protocols.zero_shot import zero_shot
from mama.evaluation.scorecard import grouped, scorecard
from mama.exchange.metrics import Label
from mama.final.saved import load_final, read_experiment

# Predictions per task, and more of the tasks' scorecards.
Answered = tuple[dict[str, Predictions], dict[str, dict[str, Any]]]


def ingested(
    dataset: Path,
    adapter: str | None,
    models: Sequence[Path],
    cache: Path,
    progress: Progress = untold,
) -> Dataset:
    """Return the dataset itself or, with an adapter, its images ingested into `cache`.

    The cached images have the largest of the models' image sizes. All studies of a raw folder are
    test studies.

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
    sizes = [read_experiment(final).image.size for final in models]
    ingest(
        dataset,
        cache,
        adapter=adapter,
        # The pseudonyms are as temporary as the cache; a fixed key gives a fixed order.
        secret=bytes(32),
        long_side=max(side for size in sizes for side in size),
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
    subset = read_experiment(final).evaluation.balanced
    found, _ = _to_score(final, dataset, device, subset=subset)
    return {
        "scored": {"split": split, "studies": len(studies)},
        "zero_shot": {task: metrics(predictions) for task, predictions in found.items()},
    }


def by_protocol(
    protocol: Protocol,
    final: Path,
    dataset: Dataset,
    device: torch.device,
    *,
    against: Path | None = None,
    by: Sequence[Column] = (),
) -> dict[str, Any]:
    """Return the scored split and, under the protocol's name, its figures.

    Of zero-shot and linear probes, a `scorecard` per task, with those of the groups of `by`; a
    probe's has the `curve` of fewer patients too. Of the others, see `retrieval` and `pointing`.

    Args:
        protocol: how the model is asked.
        final: the model's folder.
        dataset: the dataset.
        device: device to compute on.
        against: folder of a model to compare with on the same studies.
        by: columns whose values make groups.

    Raises:
        ModelError: a folder holds no model.
        DataError: the dataset has no study, or no labels to fit.
        ConfigError: the two models have different classes, or the protocol has no tasks to compare.
    """
    split, studies = scored(dataset)
    found: dict[str, Any] = {"scored": {"split": split, "studies": len(studies)}}
    key = protocol.replace("-", "_")
    if protocol in (Protocol.RETRIEVAL, Protocol.POINTING):
        if against or by:
            raise ConfigError(
                f"{protocol} has no tasks to compare or to group",
                where=f"--protocol {protocol}",
                fix="Leave out --against and --by",
            )
        model, experiment = load_final(final)
        model.to(device)
        if protocol == Protocol.POINTING:
            return found | {key: pointing(model, experiment, dataset, studies, device)}
        features = image_features(model, dataset, studies, device)
        return found | {key: retrieval(model, studies, features, device)}
    subset = read_experiment(final).evaluation.balanced
    answer = partial(_to_score, dataset=dataset, device=device, subset=subset)
    if protocol == Protocol.LINEAR_PROBE:
        answer = partial(_probed, dataset=dataset, device=device, subset=subset)
    answered, extra = answer(final)
    others, _ = answer(against) if against else ({}, {})
    cards = {
        task: scorecard(one, others.get(task)) | extra.get(task, {})
        for task, one in answered.items()
    }
    for column in by:
        for task, one in answered.items():
            groups = grouped(one, studies, column)
            cards[task].setdefault("by", {})[column.value] = groups
    return found | {key: cards}


def _to_score(
    final: Path, dataset: Dataset, device: torch.device | None, *, subset: bool
) -> Answered:
    """Return predictions per task; with `subset`, of a class-balanced subset of the units."""
    _, studies = scored(dataset)
    labelled = answers(final, dataset, device)
    found: dict[str, Predictions] = {str(label): one for label, one in labelled.items()}
    if any(study.labels.cancer for study in studies):
        found["pathology"] = by_pathology(labelled["suspicious"], studies)
    return {task: balanced(one) if subset else one for task, one in found.items()}, {}


def _probed(final: Path, dataset: Dataset, device: torch.device, *, subset: bool) -> Answered:
    split, studies = scored(dataset)
    if split != "test":
        raise DataError(
            "no test studies, on which a probe could be scored",
            where=str(dataset.folder),
            fix="Ingest with --test-fraction above 0; a raw folder has test studies only",
        )
    train = dataset.studies("train")
    model, _ = load_final(final)
    model.to(device)
    found = probe_tasks(
        train,
        image_features(model, dataset, train, device).pooled if train else np.empty((0, 0)),
        studies,
        image_features(model, dataset, studies, device).pooled,
    )
    predictions = {
        task: balanced(one.predictions) if subset else one.predictions
        for task, one in found.items()
    }
    return predictions, {task: {"curve": one.curve} for task, one in found.items()}
