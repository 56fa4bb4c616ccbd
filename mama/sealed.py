"""JSON files that know when they are damaged: an object with the SHA-256 of its other values in `sha256`.

Any program may read one as plain JSON; only ours write them.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from mama.errors import IntegrityError
from mama.files import write_bytes

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
    """Read what `write_sealed` wrote; None where there is nothing at `path`.

    Args:
        fix: what a person can do about a damaged file.

    Raises:
        IntegrityError: the file is damaged, was changed by hand, or cannot be read.
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
    """Read what `write_sealed` wrote and can be done without: empty where it is missing or damaged."""
    try:
        return read_sealed(path) or {}
    except IntegrityError as error:
        logger.warning("%s; it counts as missing", error)
        return {}


def sealed_line(values: Values) -> bytes:
    """An object with its seal as a line of a log."""
    values = json.loads(json.dumps(values))  # keys as they will be read, of which the seal is made
    return json.dumps(values | {SEAL: seal(values)}).encode() + b"\n"


def opened(data: bytes) -> Values | None:
    """The values of a sealed object's JSON, None where it is not as it was written."""
    try:
        values = json.loads(data)
        claimed = values.pop(SEAL)
        return values if claimed == seal(values) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def seal(values: Values) -> str:
    """The SHA-256 of an object, whatever the order of its keys.

    Raises:
        TypeError: a value is not JSON's.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
