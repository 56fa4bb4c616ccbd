"""Whose a folder is: a command writes into empty folders and its own, and a run's folder stays its experiment's."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mama.configfile import load
from mama.errors import ConfigError

SHOWN = 60  # characters of a value


def refuse_foreign(folder: Path, marks: Collection[str], *, before: Collection[str] = ()) -> None:
    """Refuse a folder that holds what is not ours; a new one, an empty one and one with a mark pass.

    Args:
        marks: paths below `folder` that only we write.
        before: names of ours that an interrupted start leaves without a mark.

    Raises:
        ConfigError: it is a file, or holds other things.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file", where=str(folder), fix="Give the path of a folder")
    if not folder.is_dir() or any((folder / mark).exists() for mark in marks):
        return
    others = sorted(
        entry.name for entry in folder.iterdir() if entry.name not in before and not _empty(entry)
    )
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ConfigError(
            f"holds other things ({others[0]}{more})",
            where=str(folder),
            fix="Give a new or an empty folder",
        )


def refuse_another(path: Path, config: BaseModel, holds: str) -> None:
    """Refuse to go on where the file at `path` tells of another configuration; without the file all is well.

    Args:
        holds: what the folder holds then, such as "another simulation".

    Raises:
        ConfigError: it names the first key that differs, and both values.
    """
    if not path.exists():
        return
    there, here = (one.model_dump(mode="json") for one in (load(type(config), path), config))
    if there != here:
        key, one, other = first_difference(there, here)
        raise ConfigError(
            f"holds {holds}: {key} is {one} there and {other} here",
            where=str(path.parent),
            fix="Give another --out, or remove it",
        )


def first_difference(there: Any, here: Any, key: str = "") -> tuple[str, str, str]:
    """The first key, as a.b.c, whose values differ in two unequal mappings, and both values."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in [*there, *here]:
            one, other = there.get(name), here.get(name)
            if one != other or (name in there) != (name in here):
                return first_difference(one, other, f"{key}.{name}" if key else name)
    return key, _short(there), _short(here)


def _empty(entry: Path) -> bool:
    return entry.is_dir() and not any(entry.iterdir())


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
