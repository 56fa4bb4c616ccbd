"""Final models of this site's runs, each a folder for `mama-site report` and `mama evaluate`."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from client.site.config import SiteFile
from mama.config import Experiment, Section
from mama.exchange.protocol import Identifier, Sha256
from mama.final.saved import save_final
from mama.model import MaMA
from mama.system.sealed import read_if_whole, write_sealed

RECORD = "federation.json"
# Number of whole models that are kept; older ones are removed.
KEPT = 5


class FinalModel(Section):
    """Origin of a kept model.

    `model` is the SHA-256 of its trained tensors, equal at all sites and in the run's metrics.json;
    `finished` is the time at which this site received it (UTC).
    """

    run: Identifier
    experiment: str
    rounds: int
    model: Sha256
    finished: str


def keep(
    folder: Path,
    model: MaMA,
    experiment: Experiment,
    record: FinalModel,
    *,
    share_weights: bool = True,
) -> None:
    """Write a model and then its origin, which marks it as whole; keep an identical one."""
    known = _read(folder / RECORD)
    if known and (known.run, known.model) == (record.run, record.model):
        return
    (folder / RECORD).unlink(missing_ok=True)
    save_final(folder, model, experiment, share_weights=share_weights)
    write_sealed(folder / RECORD, record.model_dump(mode="json"))


def finals(state: Path) -> list[tuple[Path, FinalModel, int]]:
    """Return the whole models of a site, oldest first: folder, record and size in bytes."""
    found = []
    for path in state.glob(f"runs/*/final/{RECORD}"):
        record = _read(path)
        if record is None:
            continue
        size = sum(part.stat().st_size for part in path.parent.rglob("*") if part.is_file())
        found.append((path.parent, record, size))
    return sorted(found, key=lambda one: (one[1].finished, one[1].run))


def folder_of(site: SiteFile, named: str) -> Path:
    """Return the folder with this path, or of this site's run with this name."""
    path = Path(named)
    known = not path.exists() and re.fullmatch(r"[\w.:-]+", named) and site.run_folder(named)
    return known if known and known.is_dir() else path


class Origin(NamedTuple):
    """Origin of a final model: its run if known, and whether this site stored it."""

    run: str | None
    kept_here: bool


def origin(folder: Path) -> Origin:
    """Return a final model's origin, from the site's record or the coordinator's metrics.json."""
    if record := _read(folder / RECORD):
        return Origin(record.run, True)
    run = read_if_whole(folder.parent / "metrics.json").get("run")
    try:
        # The name becomes a folder below the site's state.
        return Origin(TypeAdapter(Identifier).validate_python(run), False)
    except ValidationError:
        return Origin(None, False)


def prune(state: Path, run: str) -> None:
    """Remove all but the newest models; keep that of `run`."""
    others = [folder for folder, record, _ in finals(state) if record.run != run]
    for folder in others[: max(0, len(others) + 1 - KEPT)]:
        drop(folder)


def drop(folder: Path) -> None:
    """Remove a model if it exists."""
    if folder.exists():
        # First the record that marks it as whole, so that a partial model is never listed.
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder)


def final_of(folder: Path) -> FinalModel | None:
    """Return the record of a whole model in this folder, or None."""
    return _read(folder / RECORD)


def _read(path: Path) -> FinalModel | None:
    try:
        return FinalModel.model_validate(read_if_whole(path))
    except ValidationError:  # missing, damaged, or of another version
        return None
