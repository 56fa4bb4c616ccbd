"""The last models of runs that this site took part in, each a folder for `mama-site report` and `mama evaluate`."""

import shutil
from pathlib import Path

from pydantic import ValidationError

from client.last_answer import LAST_ANSWER
from client.refused import RefusedError
from mama.config import Experiment, Section
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Identifier, Sha256
from mama.export import save_final
from mama.model import MaMA
from mama.sealed import read_if_whole, write_sealed

RECORD = "federation.json"
# Whole models that stay; of more the oldest go.
KEPT = 5


class FinalModel(Section):
    """The origin of a kept model. `model` is the SHA-256 of its trained tensors, equal at all sites and in the run's
    metrics.json; `finished` is the time at which this site got it (UTC)."""

    run: Identifier
    experiment: str
    rounds: int
    model: Sha256
    finished: str


def keep(folder: Path, model: MaMA, experiment: Experiment, record: FinalModel) -> None:
    """Write a model, and then where it comes from, which makes it whole; one that is there already stays."""
    known = _read(folder / RECORD)
    if known and (known.run, known.model) == (record.run, record.model):
        return
    (folder / RECORD).unlink(missing_ok=True)
    save_final(folder, model, experiment)
    write_sealed(folder / RECORD, record.model_dump(mode="json"))


def finals(state: Path) -> list[tuple[Path, FinalModel, int]]:
    """The whole models below a site's state folder, oldest first: folder, record, and size in bytes."""
    found = []
    for path in state.glob(f"runs/*/final/{RECORD}"):
        record = _read(path)
        if record is None:
            continue
        size = sum(part.stat().st_size for part in path.parent.rglob("*") if part.is_file())
        found.append((path.parent, record, size))
    return sorted(found, key=lambda one: (one[1].finished, one[1].run))


def require_trained(run_folder: Path) -> None:
    """Refuse the last model of a run in which this site trained no round: it would fill the disk for nobody.

    Raises:
        RefusedError: it trained none.
    """
    if not (run_folder / LAST_ANSWER).exists():
        raise RefusedError(ErrorCode.POLICY_PLAN)


def prune(state: Path, run: str) -> None:
    """Remove all but the newest models; that of `run` stays."""
    others = [folder for folder, record, _ in finals(state) if record.run != run]
    for folder in others[: max(0, len(others) + 1 - KEPT)]:
        # First what makes it whole, so that half of one is never listed.
        (folder / RECORD).unlink()
        shutil.rmtree(folder)


def _read(path: Path) -> FinalModel | None:
    try:
        return FinalModel.model_validate(read_if_whole(path))
    except ValidationError:  # none yet, a damaged one, or another version's
        return None
