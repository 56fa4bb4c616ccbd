"""Columns of a table by their names here, as the map of the settings says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mama.data.tables.problems import Problems
from mama.data.tables.table import Row, Table
from mama.errors import ConfigError

SEPARATORS = "Separate the columns by a comma, semicolon, tab or |"


@dataclass(frozen=True)
class Columns:
    """Positions of the known columns; `unknown` are those passed over."""

    positions: dict[str, int]
    headings: dict[str, str]
    unknown: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        return name in self.positions

    def cell(self, row: Row, name: str) -> str:
        """Return a cell by the column's name here; empty if the table lacks the column."""
        position = self.positions.get(name)
        return "" if position is None or position >= len(row.cells) else row.cells[position]

    def heading(self, name: str) -> str:
        """Return a column's name as the table has it, for messages."""
        return self.headings.get(name, name)


def choose(
    table: Table,
    known: Sequence[str],
    problems: Problems,
    *,
    required: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
) -> Columns:
    """Find the known columns of a table, whatever their case and order.

    Args:
        table: the table.
        known: names here.
        problems: gets a required column that is missing, and a known one that is repeated.
        required: those of `known` that the table must have.
        mapping: columns of the table by names here; another name stands for itself.

    Raises:
        ConfigError: the map has a name that is not known.
    """
    names = dict(mapping or {})
    for name in names:
        if name not in known:
            raise ConfigError(
                f"unknown name '{name}'",
                where="data.ingest.reports.columns",
                fix=f"Use {', '.join(known)}",
            )
    lowered = [plain_heading(column) for column in table.columns]
    positions: dict[str, int] = {}
    missing: list[str] = []
    for name in known:
        heading = plain_heading(names.get(name, name))
        found = [number for number, column in enumerate(lowered) if column == heading]
        if len(found) > 1:
            problems.add(1, f"column {found[1] + 1} is repeated", "Keep one column of each name")
        if found:
            positions[name] = found[0]
        elif name in names or name in required:
            missing.append(name)
    if missing:
        _add_missing(problems, table, positions, {name: names.get(name, name) for name in missing})
    used = set(positions.values())
    return Columns(
        positions=positions,
        headings={name: table.columns[position] for name, position in positions.items()},
        unknown=tuple(
            column for number, column in enumerate(table.columns) if column and number not in used
        ),
    )


def _add_missing(
    problems: Problems, table: Table, positions: Mapping[str, int], missing: Mapping[str, str]
) -> None:
    """Add one error for all missing columns.

    Args:
        problems: of the table.
        table: the table.
        positions: of the columns that were found.
        missing: headings by the names here.
    """
    several = len(missing) > 1
    headings = " and ".join(f"'{heading}'" for heading in missing.values())
    what = f"{'columns' if several else 'column'} {headings} {'are' if several else 'is'} missing"
    if len(table.columns) == 1:
        problems.add(1, f"{what}; the header is a single column", SEPARATORS)
    elif positions:  # else the first line may be no header but a patient's row, and is not shown
        there = ", ".join(f"'{column}'" for column in table.columns if column)
        names = ", ".join(missing)
        problems.add(1, what, f"The header has {there}: map one of them to {names}, or add it")
    else:
        problems.add(1, what, f"Add a header, or map columns of it to {', '.join(missing)}")


def plain_heading(name: str) -> str:
    """Return a heading in lower case, with single blanks."""
    return " ".join(name.lower().split())
