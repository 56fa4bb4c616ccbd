"""One thing looked at, and what came of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from client.refused import RefusedError
from mama.errors import MamaError


@dataclass(frozen=True)
class Check:
    """WARN: it works, but think of it. FAIL: the site cannot take part; `remedy` says what to do."""

    name: str
    verdict: Literal["PASS", "WARN", "FAIL"]
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict}  {self.name}: {self.found}"
        return f"{line}. {self.remedy}" if self.remedy else line


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, "PASS", found)


def warn(name: str, found: str, remedy: str) -> Check:
    """It works, but think of it."""
    return Check(name, "WARN", found, remedy)


def fail(name: str, found: str, remedy: str) -> Check:
    """The site cannot take part."""
    return Check(name, "FAIL", found, remedy)


def guarded(name: str, checks: Iterable[Check]) -> Iterator[Check]:
    """The checks; an expected error or a refusal among them is a failed check, and ends this group only."""
    try:
        yield from checks
    except MamaError as error:
        place = f"{error.where}: " if error.where else ""
        yield fail(name, f"{place}{error.what}", error.fix)
    except RefusedError as error:
        yield fail(name, str(error), f"Refused with code {error.code}")
