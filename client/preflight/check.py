"""The result of one preflight check."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from client.errors import RefusedError
from mama.errors import MamaError


@dataclass(frozen=True)
class Check:
    """One check's verdict.

    WARN: the site can take part, but something needs attention. FAIL: it cannot; `remedy` is
    the advice.
    """

    name: str
    verdict: Literal["PASS", "WARN", "FAIL"]
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict}  {self.name}: {self.found}"
        return f"{line}. {self.remedy}" if self.remedy else line


def ok(name: str, found: str) -> Check:
    """Return a passed check."""
    return Check(name, "PASS", found)


def warn(name: str, found: str, remedy: str) -> Check:
    """Return a check that passed but needs attention."""
    return Check(name, "WARN", found, remedy)


def fail(name: str, found: str, remedy: str) -> Check:
    """Return a failed check."""
    return Check(name, "FAIL", found, remedy)


def guarded(name: str, checks: Iterable[Check]) -> Iterator[Check]:
    """Yield the checks; an expected error or refusal becomes a failed check and ends the group."""
    try:
        yield from checks
    except MamaError as error:
        place = f"{error.where}: " if error.where else ""
        yield fail(name, f"{place}{error.what}", error.fix)
    except RefusedError as error:
        yield fail(name, str(error), f"The site refuses with code {error.code}")
