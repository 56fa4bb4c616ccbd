"""The three things a site does for a federation: describe itself, train a round, evaluate a model."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from client.consent import dataset_of
from client.finals import FinalModel, keep
from client.gpu_memory import limit_gpu_memory
from client.lineage import Lineage
from client.method import LocalMethod
from client.open_round import OpenRound
from client.patients import require_patients_in, require_patients_of
from client.private import PrivateRound
from client.private_terms import require_patients
from client.refused import RefusedError
from client.sitefile import SiteFile
from client.states import RoundStates
from client.streams import stream_of
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.errors import ModelError, TrainingError
from mama.evaluation.counts import label_counts
from mama.evaluation.features import image_features
from mama.evaluation.masking import Mask
from mama.evaluation.predictions import Predictions
from mama.evaluation.probe import linear_probe
from mama.evaluation.zero_shot import zero_shot
from mama.exchange.arrays import Arrays
from mama.exchange.block import digest_of
from mama.exchange.codes import ErrorCode
from mama.exchange.coding import encode
from mama.exchange.fingerprint import describe as describe_model
from mama.exchange.method import initial_arrays, travelling_shapes
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
from mama.model import MaMA, build_model, count_parameters
from mama.towers.words import remark_on_words
from mama.trainer import Trainer

logger = logging.getLogger("fedmama.client")


def describe(site: SiteFile, experiment: Experiment) -> Description:
    """The base model's fingerprint and the parameter counts, after checking that there are studies enough."""
    require_patients_of(site, _pairs(site, experiment))
    if experiment.privacy.mode == "patient":
        require_patients(site, experiment)
    if remark := remark_on_reports(site, experiment):
        logger.warning("site %s: %s", site.site, remark)
    return describe_model(_model(site, experiment).model)


def remark_on_reports(site: SiteFile, experiment: Experiment) -> str | None:
    """A line for the site alone when the text tower's tokeniser does not know many of the reports' words."""
    reports = (study.sentences for study in dataset_of(site).studies("train"))
    tokeniser = _model(site, experiment).model.text.tokeniser
    return remark_on_words(tokeniser, chain.from_iterable(reports))


def shapes(site: SiteFile, experiment: Experiment) -> dict[str, tuple[int, ...]]:
    """The shapes of what the server sends to this site."""
    return travelling_shapes(_model(site, experiment).model, experiment.federation)


def lineage(site: SiteFile, experiment: Experiment, run: str) -> Lineage:
    """The models of a run, beginning with the one that this site builds itself."""

    def first() -> Arrays:
        return initial_arrays(build_model(experiment, site.models), experiment.federation)

    return Lineage(site, experiment, run, _model(site, experiment).first, first)


def train(
    site: SiteFile,
    experiment: Experiment,
    task: Task,
    arrays: Arrays,
    open_round: OpenRound,
    on_step: Callable[[str, int], None] | None = None,
) -> tuple[TrainingMetrics, Arrays]:
    """One round (counted from 1) of local training from the global model; returns metrics and update.

    A round that ends early has taken its first steps; the next one starts at the step that was planned for it, so that
    schedules and late starts are the same at all sites.
    """
    number, steps = task.round, experiment.federation.local_steps
    model, initial, _ = _model(site, experiment)
    method = LocalMethod(site, experiment.federation, task.run, number)
    method.put(model, arrays, initial, after=False)
    corrections, device = method.begin(model, arrays), device_of(site)
    private = PrivateRound(site, experiment, task) if experiment.privacy.mode == "patient" else None
    trainer: Trainer
    if private:
        trainer = private.trainer(model, device, corrections)
    else:
        pairs = StudyPairs(dataset_of(site), experiment, stream=stream_of(site, experiment, task))
        require_patients_of(site, pairs)
        trainer = Trainer(model, pairs, experiment, device, corrections, method.guide(model))
    states = optimiser_states(site, task.run)
    if experiment.optimiser.keep_state:
        try:
            if earlier := states.before(number):
                trainer.load(earlier)
        except ModelError as error:
            # It is worth a round's momentum, not the round.
            logger.warning("site %s, round %d: %s", site.site, number, error)

    def tell(step: int) -> None:
        if on_step:
            on_step(site.site, step)

    planned = range((number - 1) * steps, number * steps)
    if private:
        record = open_round.take(trainer, planned, tell, private.keep_head)
    else:
        record = open_round.take(trainer, planned, tell)
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
    """Counts of a round's model's answers on this site's test studies; with `task.probes` also of linear probes.

    The labels are masked before anything is scored or fitted, those of the training studies too.
    """
    if experiment.privacy.mode == "patient":
        return EvaluationCounts(counts={})  # not noised, so it stays here
    (model, initial, _), dataset = _model(site, experiment), dataset_of(site)
    device = device_of(site)
    method = LocalMethod(site, experiment.federation, task.run, task.round)
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
    """The optimiser's states of a run, the largest files that a site keeps of it beside the final model."""
    return RoundStates(site.run_folder(run) / "optimiser")


def keep_final(
    site: SiteFile, experiment: Experiment, task: Task, arrays: Arrays, checksum: str
) -> None:
    """Put the run's last model away as one that needs nothing else; `checksum` is that of its trained tensors."""
    model, initial, _ = _model(site, experiment)
    method = LocalMethod(site, experiment.federation, task.run, task.round)
    method.put(model, arrays, initial, after=True)
    kept = FinalModel(
        run=task.run,
        experiment=experiment.name,
        rounds=task.round,
        model=checksum,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    keep(site.run_folder(task.run) / "final", model, experiment, kept)


def device_of(site: SiteFile) -> torch.device:
    """The site file's device; auto takes a GPU when there is one."""
    if site.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(site.device)


def _counts(
    site: SiteFile, experiment: Experiment, mask: Mask, answers: dict[Label, Predictions]
) -> dict[Label, LabelCounts]:
    """The counts of each label whose classes are the experiment's; a probe has those of the site's own labels."""
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
    initial: dict[str, Tensor]  # of what stays at the site
    first: str  # checksum of the first global model


def _model(site: SiteFile, experiment: Experiment) -> _Built:
    """This process's model for an experiment, built once; every task sets its trained tensors."""
    if site.threads is not None:
        torch.set_num_threads(site.threads)
    models = tuple(sorted(site.models.items()))
    built = _built(experiment.canonical_json(), models, site.policy.max_parameters)
    device = device_of(site)
    limit_gpu_memory(site, built.model, device)
    built.model.to(device)
    return built


@lru_cache(maxsize=1)
def _built(experiment: str, models: tuple, most: int) -> _Built:
    read = Experiment.model_validate_json(experiment)
    if count_parameters(read, dict(models)) > most:
        raise RefusedError(ErrorCode.POLICY_SIZE)
    model = build_model(read, dict(models))
    first = digest_of(encode(initial_arrays(model, read.federation)))
    return _Built(model, local_tensors(model, read.federation.local), first)
