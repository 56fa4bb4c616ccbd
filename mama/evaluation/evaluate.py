"""Evaluation of a finished model on a whole dataset, as in `mama evaluate`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mama.data.ingest.run import Progress, ingest, untold
from mama.data.manifest import MANIFEST, Dataset
from mama.data.studies import Split, Studies
from mama.errors import DataError
from mama.evaluation import WITHOUT_TASKS, Column, Protocol
from mama.evaluation.features import image_features
from mama.evaluation.pointing import pointing
from mama.evaluation.predictions import Predictions, balanced, by_pathology, metrics
from mama.evaluation.protocols.learning_curve import ProbeTask, probe_tasks
from mama.evaluation.protocols.retrieval import retrieval
from mama.evaluation.protocols.zero_shot import zero_shot
from mama.evaluation.scorecard import grouped, scorecard
from mama.final.saved import load_final, read_experiment


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
) -> dict[str, Predictions]:
    """Return zero-shot predictions of each task for `scored`'s studies, on the CPU by default.

    If pathology is known of a breast, `pathology` has the predictions of `suspicious` with it as
    truth.

    Raises:
        ModelError: `final` holds no model.
        DataError: the dataset has no study.
    """
    device = device or torch.device("cpu")
    model, experiment = load_final(final)
    _, studies = scored(dataset)
    model.to(device)
    features = image_features(model, dataset, studies, device)
    labelled = zero_shot(model, experiment, studies, features, device)
    found: dict[str, Predictions] = {str(label): one for label, one in labelled.items()}
    if any(study.labels.cancer for study in studies):
        found["pathology"] = by_pathology(labelled["suspicious"], studies)
    return found


def evaluate_whole(
    final: Path, dataset: Dataset, device: torch.device | None = None
) -> dict[str, Any]:
    """Return the scored split and the figures per task; null with a reason if labels are missing.

    {"scored": {"split": "test", "studies": 9}, "zero_shot": {"density": {"auc": ...}}}. With
    `evaluation.balanced` the figures are those of the class-balanced subset.
    """
    split, studies = scored(dataset)
    found = _subset(final, answers(final, dataset, device))
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
        protocol: what is computed; those of WITHOUT_TASKS take neither `against` nor `by`.
        final: the model's folder.
        dataset: the dataset.
        device: device to compute on.
        against: folder of a model to compare with on the same studies.
        by: columns whose values make groups.

    Raises:
        ModelError: a folder holds no model.
        DataError: the dataset has no study, or no labels to fit.
        ConfigError: the two models have different classes.
    """
    split, studies = scored(dataset)
    result: dict[str, Any] = {"scored": {"split": split, "studies": len(studies)}}
    key = protocol.replace("-", "_")
    if protocol in WITHOUT_TASKS:
        model, experiment = load_final(final)
        model.to(device)
        if protocol == Protocol.POINTING:
            return result | {key: pointing(model, experiment, dataset, studies, device)}
        features = image_features(model, dataset, studies, device)
        return result | {key: retrieval(model, studies, features, device)}
    curves: dict[str, Any] = {}
    if protocol == Protocol.ZERO_SHOT:
        own = answers(final, dataset, device)
        others = answers(against, dataset, device) if against else {}
    else:
        probes = _probes(final, dataset, device)
        own = {task: probe.predictions() for task, probe in probes.items()}
        curves = {task: {"curve": probe.curve()} for task, probe in probes.items()}
        rivals = _probes(against, dataset, device) if against else {}
        others = {task: probe.predictions() for task, probe in rivals.items()}
    own, others = _subset(final, own), _subset(final, others)
    cards = {}
    for task, one in own.items():
        cards[task] = scorecard(one, others.get(task)) | curves.get(task, {})
        if by:
            cards[task]["by"] = {column.value: grouped(one, studies, column) for column in by}
    return result | {key: cards}


def _subset(final: Path, found: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Return the predictions, of a class-balanced subset if the model's experiment asks for it."""
    asked = read_experiment(final).evaluation.balanced
    return {task: balanced(one) if asked else one for task, one in found.items()}


def _probes(final: Path, dataset: Dataset, device: torch.device) -> dict[str, ProbeTask]:
    split, studies = scored(dataset)
    if split != "test":
        raise DataError(
            "no test studies, on which a probe could be scored",
            where=str(dataset.folder),
            fix="Ingest with --test-fraction above 0; a raw folder has test studies only",
        )
    model, _ = load_final(final)
    model.to(device)
    train = dataset.studies("train")
    return probe_tasks(
        train,
        image_features(model, dataset, train, device).pooled if train else np.empty((0, 0)),
        studies,
        image_features(model, dataset, studies, device).pooled,
    )
