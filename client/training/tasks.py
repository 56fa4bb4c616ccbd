"""Tasks of a site in a federation: describe itself, train a round, evaluate a model."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from client.errors import RefusedError
from client.policy.licence import require_licence
from client.policy.lineage import Lineage
from client.policy.patients import require_patients_in, require_patients_of
from client.policy.private_terms import require_patients
from client.privacy.round import PrivateRound
from client.site.config import SiteFile
from client.site.dataset import dataset_of, may_share_weights
from client.site.final_models import FinalModel, keep
from client.training.gpu_memory import limit_gpu_memory
from client.training.resumable import OpenRound
from client.training.round_state import RoundStates
from client.training.strategy import LocalMethod
from client.training.streams import stream_of
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.errors import ModelError, TrainingError
from mama.evaluation.counts import label_counts
from mama.evaluation.features import image_features
from mama.evaluation.masking import Mask
from mama.evaluation.predictions import Predictions
from mama.evaluation.protocols.linear_probe import linear_probe
from mama.evaluation.protocols.zero_shot import zero_shot
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.coding import encode
from mama.exchange.codes import ErrorCode
from mama.exchange.fingerprint import describe as describe_model
from mama.exchange.metrics import (
    EvaluationCounts,
    Label,
    LabelCounts,
    Method,
    TrainingMetrics,
    bounded,
)
from mama.exchange.protocol import Description, Task
from mama.exchange.tensors import local_tensors
from mama.exchange.update import exchanged_shapes, initial_arrays
from mama.model import MaMA, build_model, count_parameters
from mama.towers.checks.words import remark_on_words
from mama.training.device import device_of
from mama.training.trainer import Trainer

logger = logging.getLogger("fedmama.client")


def describe(site: SiteFile, experiment: Experiment) -> Description:
    """Return base fingerprint and parameter counts, if the site has enough studies."""
    require_licence(site, experiment)
    require_patients_of(site, _pairs(site, experiment))
    if experiment.privacy.mode == "patient":
        require_patients(site, experiment)
    if remark := remark_on_reports(site, experiment):
        logger.warning("site %s: %s", site.site, remark)
    return describe_model(_model(site, experiment).model)


def remark_on_reports(site: SiteFile, experiment: Experiment) -> str | None:
    """Return a remark, for the site alone, if the tokeniser knows too few words of its reports."""
    reports = (study.texts() for study in dataset_of(site).studies("train"))
    tokeniser = _model(site, experiment).model.text.tokeniser
    return remark_on_words(tokeniser, chain.from_iterable(reports))


def shapes(site: SiteFile, experiment: Experiment) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that the server sends to this site."""
    return exchanged_shapes(_model(site, experiment).model, experiment.strategy)


def lineage(site: SiteFile, experiment: Experiment, run: str) -> Lineage:
    """Return the lineage of a run's models, whose first one this site builds itself."""

    def first() -> Arrays:
        return initial_arrays(build_model(experiment, site.models), experiment.strategy)

    return Lineage(site, experiment, run, _model(site, experiment).first, first)


def train(
    site: SiteFile,
    experiment: Experiment,
    task: Task,
    arrays: Arrays,
    open_round: OpenRound,
    on_step: Callable[[str, int], None] | None = None,
) -> tuple[TrainingMetrics, Arrays]:
    """Train one round (counted from 1) from the global model; return metrics and update.

    A round that ends early has taken its first steps; the next one starts at the step that was
    planned for it, so that schedules and late starts are the same at all sites.
    """
    require_licence(site, experiment)
    number, steps = task.round, experiment.federation.local_steps
    model, initial, _ = _model(site, experiment)
    method = LocalMethod(site, experiment.strategy, task.run, number)
    method.put(model, arrays, initial, after=False)
    hooks, device = method.begin(model, arrays), device_of(site.device)
    private = PrivateRound(site, experiment, task) if experiment.privacy.mode == "patient" else None
    trainer: Trainer
    if private:
        trainer = private.trainer(model, device, hooks)
    else:
        pairs = StudyPairs(dataset_of(site), experiment, stream=stream_of(site, experiment, task))
        require_patients_of(site, pairs)
        trainer = Trainer(model, pairs, experiment, device, hooks, method.anchor(model))
    states = optimiser_states(site, task.run)
    if experiment.optimiser.keep_state:
        try:
            if earlier := states.before(number):
                trainer.load(earlier)
        except ModelError as error:
            # A lost state costs one round's momentum; failing would cost the round.
            logger.warning("site %s, round %d: %s", site.site, number, error)

    def report_step(step: int) -> None:
        if on_step:
            on_step(site.site, step)

    planned = range((number - 1) * steps, number * steps)
    if private:
        record = open_round.take(trainer, planned, report_step, private.keep_head)
    else:
        record = open_round.take(trainer, planned, report_step)
    for line in record.remarks():
        logger.info("site %s, round %d: %s", site.site, number, line)
    for line in record.warnings(number / experiment.federation.rounds):
        logger.warning("site %s, round %d: %s", site.site, number, line)
    if record.steps == 0:
        raise TrainingError(
            "no step had a finite loss", where=f"round {number}", fix="Lower optimiser.lr"
        )
    if record.steps == record.flat:
        raise RefusedError(ErrorCode.NO_CONTRAST)
    if not private:
        require_patients_in(site, trainer.pairs, planned[: record.steps])
    if experiment.optimiser.keep_state:
        trainer.save(states.of(number))
        states.keep(number)
    metrics = (
        private.metrics()
        if private
        else TrainingMetrics(
            studies=trainer.pairs.studies,
            patients=len(trainer.pairs.patients),
            steps=record.steps,
            skipped=record.skipped,
            seconds=record.seconds,
            # A loss is of one site alone, which masks are to hide.
            terms={} if experiment.privacy.secure else bounded(record.means()),
        )
    )
    return metrics, method.finish(model)


def evaluate(
    site: SiteFile, experiment: Experiment, task: Task, arrays: Arrays
) -> EvaluationCounts:
    """Count the model's predictions on this site's test studies; also linear probes if requested.

    Linear probes are evaluated with `task.probes`. All labels, including those of the training
    studies, are masked before anything is scored or fitted.
    """
    if experiment.privacy.mode == "patient":
        return EvaluationCounts(counts={})  # not noised, so it stays here
    (model, initial, _), dataset = _model(site, experiment), dataset_of(site)
    device = device_of(site.device)
    method = LocalMethod(site, experiment.strategy, task.run, task.round)
    method.put(model, arrays, initial, after=True)
    mask = Mask(dataset.manifest.studies, site.read_secret(), site.policy.label_odds)
    test = mask.apply(dataset.studies("test"))
    features = image_features(model, dataset, test, device) if test else None
    methods: dict[Method, dict[Label, Predictions]] = {}
    if features:
        methods["zero_shot"] = zero_shot(model, experiment, test, features, device)
    if features and task.probes:
        train_studies = mask.apply(dataset.studies("train"))
        train_features = image_features(model, dataset, train_studies, device)
        methods["linear_probe"] = linear_probe(
            train_studies, train_features.pooled, test, features.pooled
        )
    return EvaluationCounts(
        counts={
            method: _counts(site, experiment, mask, answers) for method, answers in methods.items()
        }
    )


def optimiser_states(site: SiteFile, run: str) -> RoundStates:
    """Return the optimiser states of a run, its largest files besides the final model."""
    return RoundStates(site.run_folder(run) / "optimiser")


def keep_final(
    site: SiteFile, experiment: Experiment, task: Task, arrays: Arrays, checksum: str
) -> None:
    """Store the run's last model complete; `checksum` is that of its trained tensors."""
    model, initial, _ = _model(site, experiment)
    method = LocalMethod(site, experiment.strategy, task.run, task.round)
    method.put(model, arrays, initial, after=True)
    kept = FinalModel(
        run=task.run,
        experiment=experiment.name,
        rounds=task.round,
        model=checksum,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    folder = site.run_folder(task.run) / "final"
    keep(folder, model, experiment, kept, share_weights=may_share_weights(site))


def forget_model() -> None:
    """Free the memory of this process's model; the next task builds it again."""
    _built.cache_clear()
    torch.cuda.empty_cache()


def _counts(
    site: SiteFile, experiment: Experiment, mask: Mask, answers: dict[Label, Predictions]
) -> dict[Label, LabelCounts]:
    """Return the counts of labels with the experiment's classes; probes use the site's labels."""
    counted = {
        label: label_counts(
            predictions, site.policy.minimum_cell, site.read_secret(), mask.rates(label)
        )
        for label, predictions in answers.items()
        if set(predictions.classes) <= set(experiment.evaluation.classes(label))
    }
    return {label: counts for label, counts in counted.items() if counts}


def _pairs(site: SiteFile, experiment: Experiment) -> StudyPairs:
    return StudyPairs(dataset_of(site), experiment, stream=site.site)


class _Built(NamedTuple):
    model: MaMA
    initial: dict[str, Tensor]  # tensors that stay at the site
    first: str  # checksum of the first global model


def _model(site: SiteFile, experiment: Experiment) -> _Built:
    """Return this process's model, built once per experiment; tasks set its trained tensors."""
    if site.threads is not None:
        torch.set_num_threads(site.threads)
    models = tuple(sorted(site.models.items()))
    built = _built(experiment.canonical_json(), models, site.policy.max_parameters)
    device = device_of(site.device)
    limit_gpu_memory(site, built.model, device)
    built.model.to(device)
    return built


@lru_cache(maxsize=1)
def _built(experiment: str, models: tuple, most: int) -> _Built:
    read = Experiment.model_validate_json(experiment)
    if count_parameters(read, dict(models)) > most:
        raise RefusedError(ErrorCode.POLICY_SIZE)
    model = build_model(read, dict(models))
    first = digest_of(encode(initial_arrays(model, read.strategy)))
    return _Built(model, local_tensors(model, read.strategy.local), first)
