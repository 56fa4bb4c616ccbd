"""A run's folder: everything that is known of a run, so that it can be stopped anywhere and continued.

experiment.yaml   the experiment
rounds.jsonl      one line an event (docs/reliability.md lists them)
metrics.json      the outcome
best.json         which round's model answered best so far
checkpoints/round-0007/   (server/checkpoint.py)
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mama.claims import refuse_another
from mama.config import Experiment
from mama.configfile import load
from mama.errors import ConfigError, ModelError
from mama.exchange.coding import encode
from mama.exchange.protocol import Description
from mama.exchange.tensors import Arrays
from mama.files import full_disk_named, write_bytes, write_json, write_text
from server.aggregation.norm import update_norm
from server.checkpoint import (
    MODEL,
    Checkpoint,
    State,
    Writer,
    read_checkpoint,
    write_checkpoint,
)
from server.memory import Memory

Event = dict[str, Any]


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
            StorageError: the disk is full.
        """
        folder = cls(path)
        if folder.checkpoints():
            refuse_another(path / "experiment.yaml", experiment, "a run of another experiment")
            return folder
        text = yaml.safe_dump(
            experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        )
        state = State(
            run=secrets.token_hex(8),
            round=0,
            base=base,
            memory=Memory(model_norm=update_norm(arrays)),
        )
        with full_disk_named(path):
            write_text(path / "experiment.yaml", text)
            folder.save(state, {MODEL: lambda file: write_bytes(file, encode(arrays))})
        return folder

    def experiment(self) -> Experiment:
        """The run's experiment."""
        return load(Experiment, self.path / "experiment.yaml")

    def save(self, state: State, files: Mapping[str, Writer], kept: int = 2) -> Checkpoint:
        """Write a checkpoint; afterwards the newest `kept` are there, and the best."""
        for damaged in self.checkpoints():
            if _number(damaged) > state.round:  # it was passed over, and its round is done again
                shutil.rmtree(damaged)
        folder = self.path / "checkpoints" / f"round-{state.round:04d}"
        checkpoint = write_checkpoint(folder, state, files)
        for old in self.checkpoints()[:-kept]:
            if _number(old) != self.best().get("round"):
                shutil.rmtree(old)
        return checkpoint

    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, oldest first."""
        return sorted(self.path.glob("checkpoints/round-*"), key=_number)

    def latest(self) -> Checkpoint:
        """The newest checkpoint that is whole; it names newer ones that are damaged.

        Raises:
            ConfigError: there is none.
            ModelError: all are damaged.
        """
        folders = self.checkpoints()[::-1]
        if not folders:
            raise ConfigError("holds no run", where=str(self.path), fix="Start one first")
        for place, folder in enumerate(folders):
            try:
                checkpoint = read_checkpoint(folder)
            except ModelError:
                continue
            return Checkpoint(folder, checkpoint.state, tuple(folders[:place]))
        raise ModelError(
            "every checkpoint is damaged",
            where=str(folders[0]),
            fix="Restore the folder from a backup, or start again with another --out",
        )

    def models(self, number: int) -> list[Path]:
        """Files of the global models up to a round that are there, the newest last."""
        folders = [folder for folder in self.checkpoints() if _number(folder) <= number]
        return [folder / MODEL for folder in folders if (folder / MODEL).exists()]

    def best(self) -> dict[str, Any]:
        """`round` and `auc` of the best evaluation so far; empty before the first."""
        path = self.path / "best.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def evaluated(self, number: int, auc: float | None) -> None:
        """Take a round's mean AUC; the checkpoint of the best is kept."""
        if auc is not None and auc > self.best().get("auc", -1.0):
            write_json(self.path / "best.json", {"round": number, "auc": auc})

    def log(self, event: Event) -> None:
        """Append one event to rounds.jsonl, on a line of its own also after a torn one."""
        line = json.dumps({"time": round(time.time(), 3), **event}) + "\n"
        with open(self.path / "rounds.jsonl", "ab+") as handle:
            if handle.seek(0, os.SEEK_END):
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = "\n" + line
            handle.write(line.encode())
            handle.flush()
            # A checkpoint must not outlast what was told of its round: privacy is counted from it.
            os.fsync(handle.fileno())

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


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("round-"))
