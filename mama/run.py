"""A training run without a federation, as `mama train` does it: a folder that can be stopped and continued.

experiment.yaml   the experiment
steps.jsonl       a line every few steps: losses and health
tensorboard/      the same as curves
checkpoints/step-000120/   where it goes on when it was stopped (mama/stops.py)
metrics.json      zero-shot figures on the test studies
final/            the model, for `mama evaluate`
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml
from torch.utils.tensorboard import SummaryWriter

from mama.config import Experiment
from mama.configfile import load
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.errors import ConfigError
from mama.evaluation.whole import evaluate_whole
from mama.export import save_final
from mama.files import write_json, write_text
from mama.model import build_model
from mama.stops import Stops
from mama.trainer import Trainer
from mama.workers import join, world

logger = logging.getLogger("fedmama.train")
STREAM = "alone"  # names the random choices, as a site's name does in a federation
KEPT = 2


def train(
    experiment: Experiment,
    dataset: Dataset,
    out: Path,
    *,
    every: int = 50,
    models: dict[str, Path] | None = None,
    device: torch.device,
    progress: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
) -> dict[str, Any]:
    """Train from the start or from the newest whole checkpoint in `out`; returns the figures of metrics.json.

    Under torchrun every process calls this; together they take each step on the whole batch.

    Args:
        every: steps between checkpoints.
        models: base models of this machine, name -> folder or file.
        progress: told the steps done and their mean losses and health figures, `every` steps.

    Raises:
        MamaError: the folder holds another run, or data, model or training fail.
    """
    if experiment.privacy.mode != "none":
        raise ConfigError(
            "private training needs the ledger of a site or the noise of a coordinator",
            where="privacy.mode",
            fix="Train in a federation; mama-sim run makes one of a single machine",
        )
    join(device)
    main = world()[0] == 0
    _claim(out, experiment, write=main)
    model = build_model(experiment, models).to(device)
    trainer = Trainer(model, StudyPairs(dataset, experiment, STREAM), experiment, device)
    stops = Stops(out / "checkpoints", KEPT)
    done = _resume(stops, trainer)
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=done) if main else None
    while done < experiment.total_steps:
        steps = min(every, experiment.total_steps - done)
        record = trainer.train(done, steps)
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
        progress(done, figures)
        _wait()
    metrics: dict[str, Any] = {}
    if writer:
        writer.close()
        save_final(out / "final", model, experiment)
        metrics = {"steps": done, "evaluation": evaluate_whole(out / "final", dataset)}
        write_json(out / "metrics.json", metrics)
    _wait()
    return metrics


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` takes this process's GPU when there is one."""
    if name != "auto":
        return torch.device(name)
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return torch.device(gpu if torch.cuda.is_available() else "cpu")


def _claim(out: Path, experiment: Experiment, *, write: bool) -> None:
    path = out / "experiment.yaml"
    if path.exists():
        if load(Experiment, path) != experiment:
            raise ConfigError(
                "holds a run of another experiment",
                where=str(out),
                fix="Give another --out, or remove it",
            )
    elif write:
        write_text(path, yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False))


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
