"""Guards for output folders: refuse foreign content and a mix of two experiments."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mama.config.load import Model, load
from mama.errors import ConfigError
from mama.system.files import target_of

MAX_SHOWN = 60  # characters of a value in a message


def refuse_foreign(folder: Path, marks: Collection[str], *, before: Collection[str] = ()) -> None:
    """Refuse a folder with foreign content; a new, an empty and a marked folder pass.

    Args:
        folder: the output folder; it need not exist.
        marks: paths below `folder` that only this program writes.
        before: names that an interrupted start may leave behind without a mark. Of these files
            and the marks, it may also leave unfinished writes.

    Raises:
        ConfigError: the folder is a file, or contains other files.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file", where=str(folder), fix="Give the path of a folder")
    if not folder.is_dir() or any((folder / mark).exists() for mark in marks):
        return
    ours = {folder / name for name in (*marks, *before)}
    others = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name not in before and not _left_by_us(entry, ours)
    )
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ConfigError(
            f"contains other files ({others[0]}{more})",
            where=str(folder),
            fix="Give a new or empty folder",
        )


def load_saved(kind: type[Model], path: Path) -> Model:
    """Load the configuration that a run saved when it began.

    Raises:
        ConfigError: this version cannot read it; the message says what to do with the whole run.
    """
    try:
        return load(kind, path)
    except ConfigError as error:
        there = f" ({error.fix[0].lower()}{error.fix[1:]} there)" if error.fix else ""
        raise ConfigError(
            f"is not of this version: {error.what}",
            where=error.where,
            fix="Finish the run with the version that began it, or begin a new one in another "
            f"--out{there}",
        ) from None


def refuse_another(path: Path, config: BaseModel, holds: str) -> None:
    """Refuse to continue if the file at `path` has another configuration; a missing file passes.

    Args:
        path: the configuration that an earlier start saved.
        config: the configuration of this start.
        holds: what the folder contains in that case, such as "another simulation".

    Raises:
        ConfigError: names the first key that differs, and both values; or `load_saved`'s.
    """
    if not path.exists():
        return
    saved, current = (c.model_dump(mode="json") for c in (load_saved(type(config), path), config))
    if saved != current:
        key, old, new = first_difference(saved, current)
        raise ConfigError(
            f"holds {holds}: {key} is {old} there and {new} here",
            where=str(path.parent),
            fix="Give another --out, or remove it",
        )


def first_difference(saved: Any, current: Any, key: str = "") -> tuple[str, str, str]:
    """Return the first key, as a.b.c, that differs in two unequal mappings, and both values."""
    if isinstance(saved, dict) and isinstance(current, dict):
        for name in [*saved, *current]:
            old, new = saved.get(name), current.get(name)
            if old != new or (name in saved) != (name in current):
                return first_difference(old, new, f"{key}.{name}" if key else name)
    return key, _short(saved), _short(current)


def _left_by_us(entry: Path, ours: Collection[Path]) -> bool:
    """Return whether an entry is or holds nothing but writes of our files that were killed."""
    if entry.is_dir():
        return all(target_of(inner) in ours for inner in entry.iterdir())
    return target_of(entry) in ours


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
