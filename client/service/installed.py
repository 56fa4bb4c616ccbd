"""Checks that a hospital runs only the code that it installed."""

import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

import client
import mama
from mama.errors import ServiceError


def require_installed_code() -> None:
    """Check that this process is isolated, and that `client` and `mama` are the installed ones.

    Raises:
        ServiceError: Python is not isolated, or `client` or `mama` comes from elsewhere.
    """
    if not sys.flags.isolated:
        raise ServiceError("runs without `python -I`", where="guard", fix="Use `mama-site start`")
    for package in (client, mama):
        where = Path(str(package.__file__)).resolve()
        expected = installed_file(f"{package.__name__}/__init__.py")
        if where != expected:
            raise ServiceError(
                f"another package was imported; {expected} is the installed one", where=str(where)
            )


def is_checkout() -> bool:
    """Return whether the installation is editable, with its code in a checkout."""
    return _checkout(_distribution()) is not None


def installed_file(name: str) -> Path:
    """Return the path of an installed file, in the checkout for an editable installation.

    Raises:
        ServiceError: fedmama is not installed.
    """
    found = _distribution()
    checkout = _checkout(found)
    return ((checkout / name) if checkout else Path(str(found.locate_file(name)))).resolve()


def _distribution() -> Distribution:
    try:
        return distribution("fedmama")
    except PackageNotFoundError:
        raise ServiceError("fedmama is not installed", where=sys.prefix) from None


def _checkout(found: Distribution) -> Path | None:
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        editable = bool(origin.get("dir_info", {}).get("editable"))
        return Path(unquote(urlparse(origin["url"]).path)) if editable else None
    except (ValueError, KeyError, AttributeError, RecursionError):
        raise ServiceError(
            "the installation's direct_url.json is damaged",
            where=sys.prefix,
            fix="Install fedmama again",
        ) from None
