"""A run's folder: everything that is known of a run, so that it can be stopped anywhere and continued.

experiment.yaml   the experiment
rounds.jsonl      one line an event
metrics.json      the outcome
checkpoints/round-0007/{model,optimiser}.safetensors
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from mama.checkpoint import load_tensors, save_tensors
from mama.claims import refuse_another
from mama.config import Experiment
from mama.configfile import load
from mama.errors import ConfigError
from mama.exchange.protocol import Description
from mama.exchange.tensors import Arrays
from mama.files import write_json, write_text

KEPT = 2

Event = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The global model after `round` rounds (0: initial), and what all sites' base models must be."""

    run: str
    round: int
    arrays: Arrays
    base: Description
    folder: Path


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(
        cls, path: Path, experiment: Experiment, arrays: Arrays, base: Description
    ) -> "RunFolder":
        """Start a run: write the experiment and the initial model.

        Raises:
            ConfigError: the folder holds a run of another experiment.
        """
        folder = cls(path)
        if folder.checkpoints():
            refuse_another(path / "experiment.yaml", experiment, "a run of another experiment")
            return folder
        text = yaml.safe_dump(
            experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        )
        write_text(path / "experiment.yaml", text)
        folder.save(Checkpoint(secrets.token_hex(8), 0, arrays, base, path))
        return folder

    def experiment(self) -> Experiment:
        """The run's experiment."""
        return load(Experiment, self.path / "experiment.yaml")

    def save(
        self, checkpoint: Checkpoint, write_optimiser: Callable[[Path], None] | None = None
    ) -> None:
        """Write a checkpoint; `model.safetensors` comes last and makes it whole. Keeps the newest KEPT."""
        folder = self.path / "checkpoints" / f"round-{checkpoint.round:04d}"
        if write_optimiser:
            write_optimiser(folder / "optimiser.safetensors")
        save_tensors(
            folder / "model.safetensors",
            {name: torch.from_numpy(array) for name, array in checkpoint.arrays.items()},
            {
                "run": checkpoint.run,
                "round": checkpoint.round,
                "base": checkpoint.base.model_dump(),
            },
        )
        for old in self.checkpoints()[:-KEPT]:
            shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Folders of whole checkpoints, oldest first."""
        found = [p.parent for p in self.path.glob("checkpoints/round-*/model.safetensors")]
        return sorted(found, key=lambda path: int(path.name.removeprefix("round-")))

    def latest(self) -> Checkpoint:
        """The newest checkpoint.

        Raises:
            ConfigError: there is none.
        """
        folders = self.checkpoints()
        if not folders:
            raise ConfigError("holds no run", where=str(self.path), fix="Start one first")
        tensors, state = load_tensors(folders[-1] / "model.safetensors")
        assert isinstance(state, dict)
        return Checkpoint(
            state["run"],
            state["round"],
            {name: tensor.numpy() for name, tensor in tensors.items()},
            Description.model_validate(state["base"]),
            folders[-1],
        )

    def log(self, event: Event) -> None:
        """Append one event to rounds.jsonl, on a line of its own also after a torn one."""
        line = json.dumps({"time": round(time.time(), 3), **event}) + "\n"
        with open(self.path / "rounds.jsonl", "ab+") as handle:
            if handle.seek(0, os.SEEK_END):
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = "\n" + line
            handle.write(line.encode())

    def events(self) -> list[Event]:
        """All events so far; a line torn by a crash is left out."""
        path = self.path / "rounds.jsonl"
        events = []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        write_json(self.path / "metrics.json", metrics)
