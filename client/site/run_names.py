"""Lookup of runs by their full name or a unique prefix."""

from collections.abc import Collection

from mama.errors import ConfigError
from mama.system.logs import printable


def run_named(begin: str, runs: Collection[str], *, missing: str, fix: str) -> str:
    """Return the run with this name, or the only one with this prefix.

    Args:
        begin: a run's name or a prefix of it.
        runs: names of all runs.
        missing: message of the error if no run matches.
        fix: advice on listing the existing names.

    Raises:
        ConfigError: no run or several runs match.
    """
    found = [begin] if begin in runs else sorted(run for run in runs if run.startswith(begin))
    if not begin or len(found) != 1:
        what = f"several runs match: {', '.join(found[:3])}" if found else missing
        raise ConfigError(what, where=repr(printable(begin)), fix=fix)
    return found[0]
