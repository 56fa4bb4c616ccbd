"""Checkpoint: the whole state of a run after a round. Between rounds none of it is in memory.

round-0007/
    model.safetensors   the global model, as the block that sites receive
                        (mama/exchange/codecs/block.py)
    state.json          run, round, history of the sites, heads of the logs, and the SHA-256 of
                        itself and of the other files
    ...                 optimiser and other state of the aggregation
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mama.errors import IntegrityError, ModelError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import Shape, read_shapes
from mama.exchange.codecs.coding import decode
from mama.exchange.protocol import Description
from mama.system.files import private_folder, sha256_of, sync_folder
from mama.system.sealed import read_sealed, write_sealed
from server.run.log_heads import Head
from server.run.site_history import SiteHistory

MODEL = "model.safetensors"
STATE = "state.json"

# Writes one of a checkpoint's files to the path it is given.
Writer = Callable[[Path], None]


class State(BaseModel):
    """Content of state.json.

    `base` describes the base models that all sites must have, `files` are checksums by name,
    `heads` those of the run's logs by file name.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    round: int
    base: Description
    memory: SiteHistory
    heads: dict[str, Head] = {}
    files: dict[str, str] = {}


@dataclass(frozen=True)
class Checkpoint:
    """State of the run after a round (0: before the first).

    `damaged` are newer checkpoints that could not be read.
    """

    folder: Path
    state: State
    damaged: tuple[Path, ...] = ()

    @property
    def run(self) -> str:
        """The run's name."""
        return self.state.run

    @property
    def round(self) -> int:
        """Rounds that are done."""
        return self.state.round

    @property
    def base(self) -> Description:
        """The description that every site's base model must have."""
        return self.state.base

    @property
    def model(self) -> Path:
        """The file of the global model."""
        return self.folder / MODEL

    @property
    def arrays(self) -> Arrays:
        """The global model, read anew each time; free to change."""
        data = bytearray(self.model.stat().st_size)
        with open(self.model, "rb") as handle:
            handle.readinto(data)
        return decode(data)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The tensors' shapes, without reading the tensors."""
        with open(self.model, "rb") as handle:
            return read_shapes(handle)


def write_checkpoint(folder: Path, state: State, files: Mapping[str, Writer]) -> Checkpoint:
    """Write all files beside `folder`, then rename them into place, replacing an older one."""
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    private_folder(new)
    try:
        for name, write in files.items():
            write(new / name)
        state = state.model_copy(update={"files": {name: sha256_of(new / name) for name in files}})
        write_sealed(new / STATE, state.model_dump(mode="json"))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    sync_folder(folder.parent)
    return Checkpoint(folder, state)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint after checking every byte of it.

    Raises:
        ModelError: it is damaged.
    """
    state = read_state(folder)
    try:
        whole = all(sha256_of(folder / name) == digest for name, digest in state.files.items())
    except OSError:
        whole = False
    if not whole:
        raise _damaged(folder)
    return Checkpoint(folder, state)


def read_state(folder: Path) -> State:
    """Read a checkpoint's state alone, without its other files.

    Raises:
        ModelError: it is damaged.
    """
    try:
        return State.model_validate(read_sealed(folder / STATE))
    except (IntegrityError, ValidationError):
        raise _damaged(folder) from None


def restate(checkpoint: Checkpoint, heads: Mapping[str, Head]) -> Checkpoint:
    """Write other heads of the logs into a checkpoint."""
    state = checkpoint.state.model_copy(update={"heads": dict(heads)})
    write_sealed(checkpoint.folder / STATE, state.model_dump(mode="json"))
    return Checkpoint(checkpoint.folder, state, checkpoint.damaged)


def _damaged(folder: Path) -> ModelError:
    return ModelError("checkpoint is damaged", where=str(folder), fix="Take an older one")
