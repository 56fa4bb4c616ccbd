"""Passphrase of the authority's key, read from a file or the terminal when first needed."""

import sys
from collections.abc import Callable
from functools import cache
from getpass import getpass
from pathlib import Path

from mama.errors import ConfigError

Passphrase = Callable[[], bytes]
SHORTEST = 12


def passphrase_from(path: Path | None, *, new: bool = False) -> Passphrase:
    """Return a function that reads the passphrase at most once.

    It raises ConfigError if there is no passphrase or a new one is too short.

    Args:
        path: file with the passphrase as its only line; None prompts on the terminal.
        new: whether it is being chosen: at least 12 characters, and prompted for twice.
    """

    @cache
    def passphrase() -> bytes:
        given = _ask(twice=new) if path is None else _read(path)
        if new and len(given) < SHORTEST:
            raise ConfigError(f"has fewer than {SHORTEST} characters", where="passphrase")
        return given

    return passphrase


def _read(path: Path) -> bytes:
    try:
        given = path.read_bytes().rstrip(b"\r\n")
    except OSError:
        given = b""
    if not given or b"\n" in given:
        raise ConfigError(
            "contains no passphrase", where=str(path), fix="Write it on the only line of the file"
        )
    return given


def _ask(*, twice: bool) -> bytes:
    if not sys.stdin.isatty():
        raise ConfigError(
            "needs its passphrase, and there is no terminal to prompt on",
            where="ca.key",
            fix="Use --passphrase-file",
        )
    given = getpass("passphrase of ca.key: ")
    if twice and getpass("again: ") != given:
        raise ConfigError("the two entries differ", where="passphrase")
    return given.encode()
