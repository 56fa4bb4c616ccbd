"""Removal of the state that ended runs left at a site, and of final models by name.

The state is needed only for further rounds. Small files that enforce a run's limits are kept: the
heads of the ledger and of the record of unmasked sums, the patient slots, and the checksums of the
models that the site received. The ledger and the record of sent answers lie elsewhere and are kept.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from client.privacy.sent import SentRecord, answers_of
from client.site.config import SiteFile
from client.site.final_models import drop, final_of
from client.site.run_names import run_named
from client.training.last_answer import LAST_ANSWER
from client.training.round_state import RoundStates
from mama.errors import ConfigError
from mama.system.files import write_bytes
from mama.system.locks import at_work_in

BY_ROUND = ("optimiser", "residual", "local", "variate")
WHOLE = (
    "open_round",
    "secure/update.safetensors",
    "secure/waves",
    "model.safetensors",
    "trained_from.safetensors",
    LAST_ANSWER,
)


@dataclass(frozen=True)
class Cleaned:
    """One run that was cleaned: the removed parts and their total size in bytes."""

    run: str
    parts: list[str]
    size: int


def clean(site: SiteFile, run: str | None = None) -> list[Cleaned]:
    """Remove the state of ended runs, or of one run with its final model.

    Args:
        site: the site's settings.
        run: a run's name or a prefix of it; None cleans all ended runs but keeps their models.

    Returns:
        The runs of which something was removed.

    Raises:
        ConfigError: no single run matches, or it has not ended.
        IntegrityError: the record of sent answers, which shows the ended runs, is damaged.
        ServiceError: a task of the run is in progress.
    """
    folders = {path.name: path for path in sorted(site.state.glob("runs/*")) if path.is_dir()}
    ended = {
        entry["run"]
        for entry in answers_of(SentRecord(site).read())
        if (entry["kind"], entry["status"]) == ("finish", "ok")
    }
    if run is not None:
        fix = f"`ls {site.state / 'runs'}` shows those that have left something"
        run = run_named(run, folders, missing="no run at this site matches", fix=fix)
        if run not in ended:
            raise ConfigError(
                "has not ended at this site",
                where=run,
                fix=f"If the run will not be resumed, remove {folders[run]} yourself",
            )
    named = folders if run is None else {run: folders[run]}
    cleaned = [
        _clean(folder, with_model=run is not None)
        for name, folder in named.items()
        if name in ended
    ]
    return [one for one in cleaned if one.parts]


def _clean(folder: Path, *, with_model: bool) -> Cleaned:
    with at_work_in(folder):
        parts = [folder / part for part in (*BY_ROUND, *WHOLE)]
        parts += [folder / "final"] if with_model else []
        sizes = {path: _size(path) for path in parts}
        for part in BY_ROUND:
            RoundStates(folder / part).remove()
        for part in WHOLE:
            _remove(folder / part)
        if with_model:
            drop(folder / "final")
        elif final_of(folder / "final"):
            # Its existence shows that this site trained: the run may send its final model again.
            write_bytes(folder / LAST_ANSWER, b"")
    removed = [str(path.relative_to(folder)) for path in parts if sizes[path]]
    return Cleaned(folder.name, removed, sum(sizes.values()))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Return the size in bytes of a file or of all files below a folder; 0 if it is missing."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size if path.exists() else 0
