"""A training run without a federation, as `mama train` does it: a folder that can be stopped and continued.

experiment.yaml   the experiment
bases.json        fingerprints of the base models it started from
steps.jsonl       a line every few steps: losses and health
tensorboard/      the same as curves
checkpoints/step-000120/   where it goes on when it was stopped (mama/stops.py)
metrics.json      zero-shot figures on the test studies
final/            the model, for `mama evaluate`
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

from mama.claims import refuse_another, refuse_foreign
from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.errors import ConfigError, IntegrityError, ModelError, TrainingError
from mama.evaluation.predictions import mismatch
from mama.evaluation.whole import evaluate_whole
from mama.exchange.fingerprint import tower_fingerprint
from mama.export import save_final
from mama.files import write_text
from mama.model import MaMA, build_model
from mama.sealed import read_if_whole, read_sealed, write_sealed
from mama.start import start_from
from mama.stops import Stops
from mama.towers.words import remark_on_words
from mama.trainer import Trainer
from mama.workers import join, world

logger = logging.getLogger("fedmama.train")
STREAM = "alone"  # names the random choices, as a site's name does in a federation
KEPT = 2
CLAIM, BASES = "experiment.yaml", "bases.json"


@dataclass(frozen=True)
class Listeners:
    """Who is told: the steps done before; every few steps those done and their mean losses and health; a remark."""

    begin: Callable[[int], None] = lambda done: None
    progress: Callable[[int, dict[str, float]], None] = lambda done, figures: None
    note: Callable[[str], None] = lambda text: None


SILENT = Listeners()


def train(
    experiment: Experiment,
    dataset: Dataset,
    out: Path,
    *,
    every: int = 50,
    models: dict[str, Path] | None = None,
    device: torch.device,
    listeners: Listeners = SILENT,
) -> dict[str, Any]:
    """Train from the start or from the newest whole checkpoint in `out`; returns the figures of metrics.json.

    Under torchrun every process calls this; together they take each step on the whole batch. A run that has ended
    is left as it is.

    Args:
        every: steps between checkpoints.
        models: base models of this machine, name -> folder or file.

    Raises:
        MamaError: the folder holds something else, or data, model or training fail.
    """
    if experiment.privacy.mode != "none":
        raise ConfigError(
            "private training needs the ledger of a site or the noise of a coordinator",
            where="privacy.mode",
            fix="Train in a federation; mama-sim run makes one of a single machine",
        )
    join(device)
    main = world()[0] == 0
    _check(experiment, dataset, out, models or {})
    if metrics := _ended(out, experiment):
        if main:
            listeners.note("this run has ended; nothing is done again")
        return metrics if main else {}
    model = build_model(experiment, models)
    bases = _fingerprints(model)
    _refuse_other_bases(out, bases)
    start_from(model, experiment, models or {})
    model.to(device)
    trainer = Trainer(model, StudyPairs(dataset, experiment, STREAM), experiment, device)
    stops = Stops(out / "checkpoints", KEPT)
    _wait()
    if main:
        # Not earlier: what is refused must not claim the folder.
        write_sealed(out / BASES, bases)
        write_text(out / CLAIM, yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False))
    done = _resume(stops, trainer)
    if main:
        listeners.begin(done)
        reports = (study.sentences for study in dataset.studies("train"))
        if remark := remark_on_words(model.text.tokeniser, chain.from_iterable(reports)):
            logger.warning(remark)
            listeners.note(remark)
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=done) if main else None
    while done < experiment.total_steps:
        steps = min(every, experiment.total_steps - done)
        record = trainer.train(done, steps)
        if record.steps == record.flat:
            raise TrainingError(
                f"none of {steps} steps trained anything: {'; '.join(record.warnings(0))}",
                where=f"steps {done} to {done + steps}",
                fix="Take more patients, unequal reports or a larger optimiser.batch_size",
            )
        done += steps
        figures = record.means() | (record.health.figures() if record.health else {})
        if writer:
            stops.save(done, trainer, done)
            _tell(
                out,
                writer,
                done,
                figures,
                record.remarks() + record.warnings(done / experiment.total_steps),
            )
            listeners.progress(done, figures)
        _wait()
    if writer:
        writer.close()
        save_final(out / "final", model, experiment, models)
        metrics = {"steps": done, "evaluation": _evaluation(out / "final", dataset, device)}
        write_sealed(out / "metrics.json", metrics)
    _wait()
    return metrics


def _check(experiment: Experiment, dataset: Dataset, out: Path, models: Mapping[str, Path]) -> None:
    """What can be refused before anything is loaded or written."""
    refuse_foreign(out, (CLAIM,), before=(BASES,))
    if (out / "rounds.jsonl").exists():
        raise ConfigError("holds a federation's run", where=str(out), fix="Give another --out")
    refuse_another(out / CLAIM, experiment, "a run of another experiment")
    known = (experiment.image.tower, experiment.text.tower)
    for name in models:
        if name not in (*known, experiment.init_from):
            raise ConfigError(
                "is no base model of the experiment",
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
    """Of the towers that start from a base model's weights, before anything is trained."""
    towers: dict[str, nn.Module] = {"text": model.text.backbone}
    if model.image.config.pretrained:
        towers["image"] = model.image
    return {name: tower_fingerprint(tower) for name, tower in towers.items()}


def _refuse_other_bases(out: Path, bases: Mapping[str, str]) -> None:
    """Refuse to continue a run on other base weights than it started from."""
    path = out / BASES
    if not (out / CLAIM).exists():
        return
    try:
        before = read_sealed(path) or {}
        changed = [name for name, found in bases.items() if before[name] != found]
    except (IntegrityError, KeyError):
        raise ModelError(
            "does not say which base weights this run started from",
            where=str(path),
            fix="Give another --out, or remove the run",
        ) from None
    if changed:
        raise ModelError(
            f"the {changed[0]} tower's base weights are not those that this run started from",
            where=str(path),
            fix="Name the same base model, or give another --out",
        )


def _ended(out: Path, experiment: Experiment) -> dict[str, Any]:
    """The figures of a run that came to its end, else nothing; damaged ones are made anew."""
    path = out / "metrics.json"
    if path.exists() and (out / "final" / "model.safetensors").exists():
        metrics = read_if_whole(path)
        if metrics.get("steps") == experiment.total_steps:
            return metrics
    return {}


def _evaluation(final: Path, dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """Figures on test studies; on those it was trained on a model has none."""
    if not dataset.studies("test"):
        return {"zero_shot": {}, "reason": "the dataset has no test studies"}
    return evaluate_whole(final, dataset, device)


def _resume(stops: Stops, trainer: Trainer) -> int:
    """Take up the newest stop, if there is one; returns the steps done."""
    done = stops.note()
    if done is None:
        return 0
    stops.resume(trainer)
    assert isinstance(done, int)
    return done


def _tell(
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
