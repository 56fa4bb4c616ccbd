"""Table of text cells with the line of each row, whichever file it came from."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One row: the number of its first line, and its cells, which `repr` omits.

    `file` is set where each row is a file of a folder.
    """

    line: int
    cells: tuple[str, ...] = field(repr=False)
    file: str = field(default="", repr=False)


@dataclass(frozen=True)
class Table:
    """Columns and rows of a table; an empty cell is unknown.

    `remarks` are pairs of a code of `mama.data.adapters.notes` and a place.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...] = field(repr=False)
    remarks: tuple[tuple[str, str], ...] = ()

    def place(self, row: Row) -> str:
        """Return where a row is, relative to the folder of the table."""
        if row.file:
            return f"{self.path.name}/{row.file}"
        return f"{self.path.name} line {row.line}"
