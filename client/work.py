"""The three things a site does for a federation: describe itself, train a round, evaluate a model."""

import logging
from collections.abc import Callable
from functools import lru_cache

import torch

from client.consent import dataset_of
from client.sitefile import SiteFile
from client.states import RoundStates
from mama.config import Experiment
from mama.corrections import Proximal
from mama.data.pairs import StudyPairs
from mama.errors import TrainingError
from mama.evaluation.counts import label_counts
from mama.evaluation.features import image_features
from mama.evaluation.predictions import Predictions
from mama.evaluation.probe import linear_probe
from mama.evaluation.zero_shot import zero_shot
from mama.exchange.fingerprint import fingerprint, parameter_counts
from mama.exchange.metrics import EvaluationCounts, Label, LabelCounts, Method, TrainingMetrics
from mama.exchange.protocol import Description
from mama.exchange.tensors import Arrays, difference, put_trained, trained_arrays, trained_shapes
from mama.model import MaMA, build_model
from mama.trainer import Correction, Trainer

logger = logging.getLogger("fedmama.client")


def describe(site: SiteFile, experiment: Experiment) -> Description:
    """The base model's fingerprint and the parameter counts, after checking that there are studies."""
    _pairs(site, experiment)
    model = _model(site, experiment)
    trained, frozen = parameter_counts(model)
    return Description(
        fingerprint=fingerprint(model), trained_parameters=trained, frozen_parameters=frozen
    )


def shapes(site: SiteFile, experiment: Experiment) -> dict[str, tuple[int, ...]]:
    """The trained tensors' shapes: what a model sent to this site must have."""
    return trained_shapes(_model(site, experiment))


def train(
    site: SiteFile,
    experiment: Experiment,
    run: str,
    number: int,
    arrays: Arrays,
    on_step: Callable[[str, int], None] | None = None,
) -> tuple[TrainingMetrics, Arrays]:
    """One round (counted from 1) of local training from the global model; returns metrics and update."""
    steps = experiment.federation.local_steps
    model, pairs = _model(site, experiment), _pairs(site, experiment)
    put_trained(model, arrays)
    pull: list[Correction] = []
    if experiment.federation.prox > 0:
        pull.append(Proximal(list(model.named_parameters()), experiment.federation.prox))
    trainer = Trainer(model, pairs, experiment, device_of(site), pull)
    states = RoundStates(site.state / run / "optimiser")
    earlier = states.before(number)
    if experiment.optimiser.keep_state and earlier:
        trainer.load(earlier)
    progress = (lambda step: on_step(site.site, step)) if on_step else None
    record = trainer.train((number - 1) * steps, steps, progress)
    for line in record.remarks():
        logger.info("site %s, round %d: %s", site.site, number, line)
    for line in record.warnings(number / experiment.federation.rounds):
        logger.warning("site %s, round %d: %s", site.site, number, line)
    if record.steps == 0:
        raise TrainingError(
            "no step had a finite loss", where=f"round {number}", fix="Lower optimiser.lr"
        )
    if experiment.optimiser.keep_state:
        trainer.save(states.of(number))
        states.prune(number)
    metrics = TrainingMetrics(
        studies=pairs.studies,
        steps=record.steps,
        skipped=record.skipped,
        seconds=record.seconds,
        terms=record.means(),
    )
    return metrics, difference(trained_arrays(model), arrays)


def evaluate(
    site: SiteFile, experiment: Experiment, arrays: Arrays, *, probes: bool
) -> EvaluationCounts:
    """Counts of the model's answers on this site's test studies; with `probes` also of linear probes."""
    model, dataset, device = _model(site, experiment), dataset_of(site), device_of(site)
    put_trained(model, arrays)
    test = dataset.studies("test")
    features = image_features(model, dataset, test, device) if test else None
    methods: dict[Method, dict[Label, Predictions]] = {}
    if features:
        methods["zero_shot"] = zero_shot(model, experiment, test, features, device)
    if features and probes:
        train_studies = dataset.studies("train")
        train_features = image_features(model, dataset, train_studies, device)
        methods["linear_probe"] = linear_probe(
            train_studies, train_features.pooled, test, features.pooled
        )
    return EvaluationCounts(
        counts={method: _counts(site, answers) for method, answers in methods.items()}
    )


def device_of(site: SiteFile) -> torch.device:
    """The site file's device; auto takes a GPU when there is one."""
    if site.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(site.device)


def _counts(site: SiteFile, answers: dict[Label, Predictions]) -> dict[Label, LabelCounts]:
    counted = {
        label: label_counts(predictions, site.policy.minimum_cell, site.read_secret())
        for label, predictions in answers.items()
    }
    return {label: counts for label, counts in counted.items() if counts}


def _pairs(site: SiteFile, experiment: Experiment) -> StudyPairs:
    return StudyPairs(dataset_of(site), experiment, stream=site.site)


def _model(site: SiteFile, experiment: Experiment) -> MaMA:
    """This process's model for an experiment, built once; every task sets its trained tensors."""
    if site.threads is not None:
        torch.set_num_threads(site.threads)
    models = tuple(sorted(site.models.items()))
    return _built(experiment.canonical_json(), models).to(device_of(site))


@lru_cache(maxsize=1)
def _built(experiment: str, models: tuple) -> MaMA:
    return build_model(Experiment.model_validate_json(experiment), dict(models))
