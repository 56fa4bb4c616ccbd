"""A hospital runs only the code that it installed: which code that is, and whether it is what was imported."""

import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

import client
import mama
from mama.errors import ServiceError


def require_installed_code() -> None:
    """Check that this process imports nothing but what is installed.

    Raises:
        ServiceError: Python does not run isolated, or `client` or `mama` come from elsewhere.
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
    """Whether the installation is a development one, whose code lies in a checkout."""
    return _checkout(_distribution()) is not None


def installed_file(name: str) -> Path:
    """Where a file of the installed distribution lies; in a development install it lies in the checkout.

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
