"""JSON files with a checksum: an object with the SHA-256 of its other values under `sha256`.

Any program may read them as plain JSON; only this project's programs write them.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from mama.errors import IntegrityError
from mama.system.files import write_bytes

logger = logging.getLogger("fedmama.files")
SEAL = "sha256"

Values = dict[str, Any]


def write_sealed(path: Path, values: Values) -> None:
    """Write an object to `path` atomically; only its owner can read it.

    Raises:
        OSError: it cannot be written.
        ValueError: a number is not finite.
    """
    assert SEAL not in values
    text = json.dumps(values | {SEAL: seal(values)}, indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def read_sealed(path: Path, fix: str = "") -> Values | None:
    """Read a file of `write_sealed`; return None if `path` does not exist.

    Args:
        path: the file.
        fix: advice for the error message of a damaged file.

    Raises:
        IntegrityError: the file is damaged, was edited by hand, or cannot be read.
    """
    try:
        values = opened(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IntegrityError(
            f"cannot be read ({type(error).__name__})", where=str(path), fix=fix
        ) from None
    if values is None:
        raise IntegrityError("is damaged", where=str(path), fix=fix)
    return values


def read_if_whole(path: Path) -> Values:
    """Read an optional file of `write_sealed`; empty if it is missing or damaged."""
    try:
        return read_sealed(path) or {}
    except IntegrityError as error:
        logger.warning("%s; it is treated as missing", error)
        return {}


def sealed_line(values: Values) -> bytes:
    """Return an object with its checksum as a line of a log."""
    values = json.loads(json.dumps(values))  # keys as they will be read, for the checksum
    return json.dumps(values | {SEAL: seal(values)}).encode() + b"\n"


def opened(data: bytes) -> Values | None:
    """Return the values of a sealed object's JSON; None if it was modified."""
    try:
        values = json.loads(data)
        claimed = values.pop(SEAL)
        return values if claimed == seal(values) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def seal(values: Values) -> str:
    """Return the SHA-256 of an object, independent of the order of its keys.

    Raises:
        TypeError: a value cannot be represented in JSON.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
