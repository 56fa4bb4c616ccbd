"""Labels of a study from the columns of its rows."""

from collections.abc import Callable, Iterable
from typing import Any

from mama.data.studies import Labels, Laterality, Split
from mama.data.tables import Problems, Row, codes
from mama.data.tables.columns import Columns

# By breast: the code, and its columns: one a side, and one for rows of a single breast.
BY_BREAST: dict[str, Callable[[str], Any]] = {
    "birads": codes.birads,
    "suspicious": codes.flag,
    "cancer": codes.flag,
}
ENDINGS: dict[str, Laterality] = {"left": "L", "right": "R"}
COLUMNS = (
    "density",
    *(f"{name}_{ending}" for name in BY_BREAST for ending in ENDINGS),
    *BY_BREAST,
    "split",
)


class LabelReader:
    """Reads the label columns of a table; unknown codes become problems.

    Args:
        columns: columns of the table.
        problems: gets the unknown codes.
    """

    def __init__(self, columns: Columns, problems: Problems):
        self.columns, self.problems = columns, problems
        self.validation = False
        self._values: dict[int, dict[str, Any]] = {}

    def check(self, row: Row, side: Laterality | None) -> None:
        """Read the labels of a row, which is of one breast if `side` is given."""
        values: dict[str, Any] = {
            "density": self._code(codes.density, row, "density"),
            "split": self._code(codes.split, row, "split"),
        }
        word = self.columns.cell(row, "split").lower()
        self.validation = self.validation or word in codes.VALIDATION
        for name, code in BY_BREAST.items():
            found = {
                breast: self._code(code, row, f"{name}_{ending}")
                for ending, breast in ENDINGS.items()
            }
            own = self._code(code, row, name)
            if own is not None and side is None:
                fix = "Fill the column laterality, or use a column for each side"
                self.problems.add(row.line, "the breast is not named", fix, name)
            elif own is not None and side is not None:
                found[side] = own
            values[name] = {breast: value for breast, value in found.items() if value is not None}
        self._values[id(row)] = values

    def read(self, rows: Iterable[tuple[Row, Laterality | None]]) -> tuple[Labels, Split | None]:
        """Return labels and part of one study; of filled cells that differ, the last counts."""
        density: str | None = None
        split: Split | None = None
        by_breast: dict[str, dict[Laterality, Any]] = {name: {} for name in BY_BREAST}
        for row, _ in rows:
            values = self._values[id(row)]
            density = values["density"] or density
            split = values["split"] or split
            for name in BY_BREAST:
                by_breast[name] |= values[name]
        return Labels(
            density=density, **{n: found or None for n, found in by_breast.items()}
        ), split

    def _code(self, code: Callable[[str], Any], row: Row, name: str) -> Any:
        if name not in self.columns:
            return None
        cell = self.columns.cell(row, name)
        return self.problems.code(code, cell, row.line, self.columns.heading(name))
