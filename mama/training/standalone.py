"""Training without a federation (`mama train`), in a folder from which it can be resumed.

experiment.yaml            the experiment
bases.json                 fingerprints of the base models at the start
steps.jsonl                a line every few steps: losses and diagnostics
tensorboard/               the same as curves
checkpoints/step-000120/   snapshots for resuming (mama/training/snapshots.py)
metrics.json               zero-shot metrics on the test studies
final/                     the model, for `mama evaluate`
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from mama.config import Experiment
from mama.config.output_folder import refuse_another, refuse_foreign
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.errors import ConfigError, IntegrityError, ModelError, TrainingError
from mama.evaluation.evaluate import evaluate_whole
from mama.evaluation.predictions import mismatch
from mama.exchange.fingerprint import tower_fingerprint
from mama.final.saved import save_final
from mama.model import MaMA, build_model
from mama.system.files import write_text
from mama.system.sealed import read_if_whole, read_sealed, write_sealed
from mama.towers.checks.words import remark_on_words
from mama.training.distributed import join, world
from mama.training.snapshots import Snapshots
from mama.training.trainer import Trainer
from mama.training.warm_start import start_from

logger = logging.getLogger("fedmama.train")
STREAM = "alone"  # name of the random streams, like a site's name in a federation
KEPT = 2
CLAIM, BASES = "experiment.yaml", "bases.json"


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a training run.

    Attributes:
        begin: called once with the number of steps done before.
        progress: called every few steps with their number, mean losses and diagnostics.
        note: called with remarks for people.
    """

    begin: Callable[[int], None] = lambda done: None
    progress: Callable[[int, dict[str, float]], None] = lambda done, figures: None
    note: Callable[[str], None] = lambda text: None


NO_CALLBACKS = Callbacks()


def train(  # noqa: PLR0913  (keywords)
    experiment: Experiment,
    dataset: Dataset,
    out: Path,
    *,
    every: int = 50,
    models: dict[str, Path] | None = None,
    device: torch.device,
    callbacks: Callbacks = NO_CALLBACKS,
) -> dict[str, Any]:
    """Train from the start or from the newest complete snapshot in `out`.

    Under torchrun every process calls this function, and together they compute each step on the
    whole batch. A finished run is left unchanged.

    Args:
        experiment: the configuration.
        dataset: an ingested dataset.
        out: folder of the run.
        every: steps between checkpoints.
        models: base models on this machine, name -> folder or file.
        device: device of this process.
        callbacks: observers of the run.

    Returns:
        The contents of metrics.json; empty in all processes but the first.

    Raises:
        MamaError: the folder contains something else, or data, model or training fail.
    """
    if experiment.privacy.mode != "none":
        raise ConfigError(
            "private training needs the ledger of a site or the noise of a coordinator",
            where="privacy.mode",
            fix="Train in a federation; `mama-sim run` simulates one on a single machine",
        )
    join(device)
    main = world()[0] == 0
    _check(experiment, dataset, out, models or {})
    if metrics := _ended(out, experiment):
        if main:
            callbacks.note("this run is finished; nothing to do")
        return metrics if main else {}
    model = build_model(experiment, models)
    bases = _fingerprints(model)
    _refuse_other_bases(out, bases)
    start_from(model, experiment, models or {})
    model.to(device)
    trainer = Trainer(model, StudyPairs(dataset, experiment, STREAM), experiment, device)
    snapshots = Snapshots(out / "checkpoints", KEPT)
    _wait()
    if main:
        # Written only now, since a rejected run must not claim the folder.
        write_sealed(out / BASES, bases)
        write_text(out / CLAIM, yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False))
    done = _resume(snapshots, trainer)
    if main:
        callbacks.begin(done)
        reports = (study.texts() for study in dataset.studies("train"))
        if remark := remark_on_words(model.text.tokeniser, chain.from_iterable(reports)):
            logger.warning(remark)
            callbacks.note(remark)
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=done) if main else None
    while done < experiment.total_steps:
        steps = min(every, experiment.total_steps - done)
        record = trainer.train(done, steps)
        if record.steps == record.flat:
            raise TrainingError(
                f"none of {steps} steps trained anything: {'; '.join(record.warnings(0))}",
                where=f"steps {done} to {done + steps}",
                fix="Add patients or distinct reports, or raise optimiser.batch_size",
            )
        done += steps
        health = record.health
        figures = record.means() | (health.figures() if health else {})
        if writer:
            snapshots.save(done, trainer, done)
            _log_progress(
                out,
                writer,
                done,
                figures,
                record.remarks() + record.warnings(done / experiment.total_steps),
            )
            callbacks.progress(done, figures)
        _wait()
    if writer:
        writer.close()
        share = dataset.manifest.share_weights
        save_final(out / "final", model, experiment, models, share_weights=share)
        metrics = {"steps": done, "evaluation": _evaluation(out / "final", dataset, device)}
        write_sealed(out / "metrics.json", metrics)
    _wait()
    return metrics


def _check(experiment: Experiment, dataset: Dataset, out: Path, models: Mapping[str, Path]) -> None:
    """Reject what can be rejected before anything is loaded or written."""
    refuse_foreign(out, (CLAIM,), before=(BASES,))
    if (out / "rounds.jsonl").exists():
        raise ConfigError("holds a federation's run", where=str(out), fix="Give another --out")
    refuse_another(out / CLAIM, experiment, "a run of another experiment")
    known = (experiment.image.tower, experiment.text.tower)
    for name in models:
        if name not in (*known, experiment.init_from):
            raise ConfigError(
                "is not a base model of the experiment",
                where=f"--model {name}",
                fix=f"Choose {' or '.join(known)}",
            )
    dataset.require(experiment.image.size)
    labels = {study.labels.density for study in dataset.manifest.studies} - {None}
    if reason := mismatch([str(label) for label in labels], experiment.evaluation.density):
        raise ConfigError(
            reason,
            where=f"evaluation.density and {dataset.folder}",
            fix="Give evaluation.density a prompt for each of the labels' names",
        )


def _fingerprints(model: MaMA) -> dict[str, str]:
    """Return fingerprints of the towers that start from a base model, before any training."""
    towers: dict[str, nn.Module] = {"text": model.text.backbone}
    if model.image.config.pretrained:
        towers["image"] = model.image
    return {name: tower_fingerprint(tower) for name, tower in towers.items()}


def _refuse_other_bases(out: Path, bases: Mapping[str, str]) -> None:
    """Refuse to continue a run with base weights other than those it started from."""
    path = out / BASES
    if not (out / CLAIM).exists():
        return
    try:
        before = read_sealed(path) or {}
        changed = [name for name, found in bases.items() if before[name] != found]
    except (IntegrityError, KeyError):
        raise ModelError(
            "does not record the base weights that this run started from",
            where=str(path),
            fix="Give another --out, or remove the run",
        ) from None
    if changed:
        raise ModelError(
            f"the {changed[0]} tower's base weights are not those that this run started from",
            where=str(path),
            fix="Give the same base model, or another --out",
        )


def _ended(out: Path, experiment: Experiment) -> dict[str, Any]:
    """Return the metrics of a finished run, otherwise nothing; damaged ones are recomputed."""
    path = out / "metrics.json"
    if path.exists() and (out / "final" / "model.safetensors").exists():
        metrics = read_if_whole(path)
        if metrics.get("steps") == experiment.total_steps:
            return metrics
    return {}


def _evaluation(final: Path, dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """Return metrics on the test studies; none without test studies."""
    if not dataset.studies("test"):
        return {"zero_shot": {}, "reason": "the dataset has no test studies"}
    return evaluate_whole(final, dataset, device)


def _resume(snapshots: Snapshots, trainer: Trainer) -> int:
    """Restore the newest snapshot, if any; return the number of steps done."""
    done = snapshots.note()
    if done is None:
        return 0
    snapshots.resume(trainer)
    assert isinstance(done, int)
    return done


def _log_progress(
    out: Path, writer: SummaryWriter, done: int, figures: dict[str, float], remarks: list[str]
) -> None:
    for remark in remarks:
        logger.warning("step %d: %s", done, remark)
    for name, value in figures.items():
        writer.add_scalar(name, value, done)
    with open(out / "steps.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps({"step": done, **figures, "remarks": remarks}) + "\n")


def _wait() -> None:
    if world()[1] > 1:
        dist.barrier()
