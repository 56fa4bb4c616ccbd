"""The passphrase of the authority's key, from a file or from the terminal. It is asked for only where needed."""

import sys
from collections.abc import Callable
from functools import cache
from getpass import getpass
from pathlib import Path

from mama.errors import ConfigError

Passphrase = Callable[[], bytes]
SHORTEST = 12


def passphrase_from(path: Path | None, *, new: bool = False) -> Passphrase:
    """A function that gives the passphrase, which is asked for at most once.

    Args:
        path: a file with the passphrase as its only line; None asks on the terminal.
        new: it is chosen now: it must have at least 12 characters, and a terminal asks for it twice.

    The function raises ConfigError where there is none, or a new one is too short.
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
        raise ConfigError("holds no passphrase", where=str(path), fix="Give a file of one line")
    return given


def _ask(*, twice: bool) -> bytes:
    if not sys.stdin.isatty():
        raise ConfigError(
            "needs its passphrase, and there is no terminal to ask for it",
            where="ca.key",
            fix="Use --passphrase-file",
        )
    given = getpass("passphrase of ca.key: ")
    if twice and getpass("again: ") != given:
        raise ConfigError("is not the same twice", where="passphrase")
    return given.encode()
