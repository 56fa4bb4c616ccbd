"""Folder of a run: its complete state, from which it can be resumed after a stop at any point.

experiment.yaml           the experiment
rounds.jsonl              one event per line (listed in docs/reliability.md), each with its SHA-256
metrics.json              the outcome
best.json                 round of the best model so far
checkpoints/round-0007/   see server/run/checkpoint.py
"""

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mama.config import Experiment
from mama.config.output_folder import load_saved, refuse_another
from mama.errors import ConfigError, ModelError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import encode
from mama.exchange.protocol import Description
from mama.system.files import full_disk_named, write_bytes, write_text
from mama.system.sealed import opened, read_if_whole, read_sealed, sealed_line, write_sealed
from server.aggregation.norm import update_norm
from server.run.checkpoint import (
    MODEL,
    Checkpoint,
    State,
    Writer,
    read_checkpoint,
    read_state,
    restate,
    write_checkpoint,
)
from server.run.events import Evaluated, Event, parse
from server.run.history import RunHistory, replay
from server.run.log_heads import EVENTS, heads
from server.run.site_history import SiteHistory

METRICS, BEST = "metrics.json", "best.json"


class RunFolder:
    """Folder of one run."""

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
            memory=SiteHistory(model_norm=update_norm(arrays)),
        )
        with full_disk_named(path):
            write_text(path / "experiment.yaml", text)
            folder.save(state, {MODEL: lambda file: write_bytes(file, encode(arrays))})
        return folder

    def experiment(self) -> Experiment:
        """Return the run's experiment."""
        return load_saved(Experiment, self.path / "experiment.yaml")

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
        """Return the checkpoint with the current heads of the logs, and write them to disk."""
        return restate(checkpoint, heads(self.path))

    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, oldest first."""
        found = self.path.glob("checkpoints/round-*")
        return sorted((path for path in found if path.name[6:].isdecimal()), key=_number)

    def latest(self) -> Checkpoint:
        """Return the newest whole checkpoint; it names newer ones that are damaged.

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
        """Return the newest whole state, quickly: without a look at the model.

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
        """Return the existing files of global models up to a round, the newest last."""
        folders = [folder for folder in self.checkpoints() if _number(folder) <= number]
        return [folder / MODEL for folder in folders if (folder / MODEL).exists()]

    def best(self) -> dict[str, Any]:
        """Return `round` and `auc` of the best evaluation so far; empty before the first.

        If best.json is missing or damaged, they come from the events of evaluations.
        """
        if known := read_if_whole(self.path / BEST):
            return known
        best: dict[str, Any] = {}
        for event in self.events():
            if (
                isinstance(event, Evaluated)
                and event.auc is not None
                and event.auc > best.get("auc", -1.0)
            ):
                best = {"round": event.round, "auc": event.auc}
        return best

    def evaluated(self, number: int, auc: float | None) -> None:
        """Take a round's mean AUC; the checkpoint of the best is kept."""
        best = self.best()
        if auc is not None and auc > best.get("auc", -1.0):
            best = {"round": number, "auc": auc}
        if best:
            write_sealed(self.path / BEST, best)

    def log(self, event: Event) -> None:
        """Append one event to rounds.jsonl, on a line of its own also after a torn one."""
        line = sealed_line(replace(event, time=round(time.time(), 3)).record())
        with open(self.path / EVENTS, "ab+") as handle:
            if handle.seek(0, os.SEEK_END):
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = b"\n" + line
            handle.write(line)
            handle.flush()
            # A checkpoint must not outlast the events of its round: they are the count of privacy.
            os.fsync(handle.fileno())

    def events(self) -> list[Event]:
        """Return all events so far; a line torn by a crash, or changed since, is left out."""
        path = self.path / EVENTS
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        records = [record for line in lines if (record := opened(line)) is not None]
        return [event for record in records if (event := parse(record)) is not None]

    def history(self) -> RunHistory:
        """Return the events folded."""
        return replay(self.events())

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
