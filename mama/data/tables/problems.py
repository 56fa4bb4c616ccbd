"""Errors of one table, collected so that a single run names them all."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from mama.data.tables.codes import CodeError
from mama.errors import DataError

MOST_NAMED = 5
Value = TypeVar("Value")


class Problem(NamedTuple):
    """One error: line, column (or none), description without any cell, and remedy."""

    line: int
    column: str
    what: str
    fix: str

    @property
    def place(self) -> str:
        """Line and column as text."""
        return f"line {self.line}, column '{self.column}'" if self.column else f"line {self.line}"


class Problems:
    """Errors of one table.

    Args:
        path: the table, named in the message.
    """

    def __init__(self, path: Path):
        self.path = path
        self.found: list[Problem] = []

    def add(self, line: int, what: str, fix: str, column: str = "") -> None:
        """Remember an error; `what` quotes no cell."""
        self.found.append(Problem(line, column, what, fix))

    def code(
        self, read: Callable[[str], Value | None], text: str, line: int, column: str
    ) -> Value | None:
        """Return the meaning of a cell by a function of `codes`; remember an unknown code."""
        try:
            return read(text)
        except CodeError as error:
            fix = f"Use one of {error.allowed}, or leave the cell empty"
            self.add(line, "unknown value", fix, column)
            return None

    def raise_all(self) -> None:
        """Raise one error that counts all problems and names the first.

        Raises:
            DataError: there was a problem.
        """
        found = sorted(set(self.found))
        if not found:
            return
        first = found[0]
        if len(found) == 1:
            raise DataError(first.what, where=f"{self.path}, {first.place}", fix=first.fix)
        named = "; ".join(
            f"{problem.place}: {problem.what} ({problem.fix})" for problem in found[:MOST_NAMED]
        )
        further = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise DataError(
            f"{len(found)} errors: {named}{further}",
            where=str(self.path),
            fix="Correct these lines, or export the table again",
        )
