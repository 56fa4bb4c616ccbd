"""A run's folder: everything that is known of a run, so that it can be stopped anywhere and continued.

experiment.yaml   the experiment
rounds.jsonl      one line an event (docs/reliability.md lists them), each with the SHA-256 of itself
metrics.json      the outcome
best.json         which round's model answered best so far
checkpoints/round-0007/   (server/checkpoint.py)
"""

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from mama.claims import refuse_another
from mama.config import Experiment
from mama.configfile import load
from mama.errors import ConfigError, ModelError
from mama.exchange.arrays import Arrays
from mama.exchange.coding import encode
from mama.exchange.protocol import Description
from mama.files import full_disk_named, write_bytes, write_text
from mama.sealed import opened, read_if_whole, read_sealed, sealed_line, write_sealed
from server.aggregation.norm import update_norm
from server.checkpoint import (
    MODEL,
    Checkpoint,
    State,
    Writer,
    read_checkpoint,
    read_state,
    restate,
    write_checkpoint,
)
from server.heads import EVENTS, heads
from server.memory import Memory

METRICS, BEST = "metrics.json", "best.json"

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
        state = state.model_copy(update={"heads": heads(self.path)})
        checkpoint = write_checkpoint(folder, state, files)
        best = self.best().get("round")
        for old in self.checkpoints()[:-kept]:
            if _number(old) != best:
                shutil.rmtree(old)
        return checkpoint

    def anchored(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the heads of the logs as they are now, on the disk too."""
        return restate(checkpoint, heads(self.path))

    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, oldest first."""
        found = self.path.glob("checkpoints/round-*")
        return sorted((path for path in found if path.name[6:].isdecimal()), key=_number)

    def latest(self) -> Checkpoint:
        """The newest checkpoint that is whole; it names newer ones that are damaged.

        Raises:
            ConfigError: there is none.
            ModelError: all are damaged.
        """
        folders = self.checkpoints()[::-1]
        for place, folder in enumerate(folders):
            try:
                checkpoint = read_checkpoint(folder)
            except ModelError:
                continue
            return Checkpoint(folder, checkpoint.state, tuple(folders[:place]))
        raise self._none_whole()

    def state(self) -> State:
        """The newest checkpoint's state that is whole, quickly: its model is not looked at.

        Raises:
            ConfigError: there is no checkpoint.
            ModelError: all are damaged.
        """
        for folder in self.checkpoints()[::-1]:
            with suppress(ModelError):
                return read_state(folder)
        raise self._none_whole()

    def _none_whole(self) -> ConfigError | ModelError:
        folders = self.checkpoints()
        if not folders:
            return ConfigError("holds no run", where=str(self.path), fix="Start one first")
        return ModelError(
            "every checkpoint is damaged",
            where=str(folders[-1]),
            fix="Restore the folder from a backup, or start again with another --out",
        )

    def models(self, number: int) -> list[Path]:
        """Files of the global models up to a round that are there, the newest last."""
        folders = [folder for folder in self.checkpoints() if _number(folder) <= number]
        return [folder / MODEL for folder in folders if (folder / MODEL).exists()]

    def best(self) -> dict[str, Any]:
        """`round` and `auc` of the best evaluation so far; empty before the first.

        Where best.json is missing or damaged, the events of evaluations say it again.
        """
        if known := read_if_whole(self.path / BEST):
            return known
        measured = [event for event in self.events() if event.get("auc") is not None]
        best = max(measured, key=lambda event: event["auc"], default={})
        return {key: best[key] for key in ("round", "auc") if best}

    def evaluated(self, number: int, auc: float | None) -> None:
        """Take a round's mean AUC; the checkpoint of the best is kept."""
        best = self.best()
        if auc is not None and auc > best.get("auc", -1.0):
            best = {"round": number, "auc": auc}
        if best:
            write_sealed(self.path / BEST, best)

    def log(self, event: Event) -> None:
        """Append one event to rounds.jsonl, on a line of its own also after a torn one."""
        line = sealed_line({"time": round(time.time(), 3), **event})
        with open(self.path / EVENTS, "ab+") as handle:
            if handle.seek(0, os.SEEK_END):
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = b"\n" + line
            handle.write(line)
            handle.flush()
            # A checkpoint must not outlast what was told of its round: privacy is counted from it.
            os.fsync(handle.fileno())

    def events(self) -> list[Event]:
        """All events so far; a line torn by a crash, or changed since, is left out."""
        path = self.path / EVENTS
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        return [event for line in lines if (event := opened(line)) is not None]

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        write_sealed(self.path / METRICS, metrics)

    def metrics(self) -> dict[str, Any] | None:
        """Read metrics.json; None where there is none.

        Raises:
            IntegrityError: it is damaged.
        """
        return read_sealed(
            self.path / METRICS, "Remove it, and run again with the same --out: it is made anew"
        )


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("round-"))
