"""Files and rows of public sets: find them by name, and count those without a partner."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from mama.data.adapters.notes import Note
from mama.data.adapters.raw import Skipped
from mama.data.dicom.scan import files_below
from mama.data.studies import Laterality
from mama.data.tables import Problems, Row, Table, codes, read_table
from mama.data.tables.codes import CodeError
from mama.data.tables.columns import plain_heading
from mama.errors import DataError
from mama.system.logs import printable

Value = TypeVar("Value")


class Sheet:
    """One table of a set, whose columns may have had other names in earlier releases.

    Args:
        path: the table.
        columns: by names here, the headings that the column has had.
        required: those that must be there.
        sheet: sheet of an Excel file.

    Raises:
        DataError: the table is missing or invalid, or lacks a required column.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, Sequence[str]],
        required: Iterable[str] = (),
        *,
        sheet: str | None = None,
    ):
        self.problems = Problems(path)
        self.table: Table = read_table(path, sheet=sheet, problems=self.problems)
        self.name = path.name
        headings = {
            plain_heading(column): n for n, column in reversed([*enumerate(self.table.columns)])
        }
        self.positions: dict[str, int] = {}
        for name, spellings in columns.items():
            found = [headings[plain_heading(s)] for s in spellings if plain_heading(s) in headings]
            if found:
                self.positions[name] = found[0]
            elif name in required:
                fix = "Use the table as the set is published"
                self.problems.add(1, f"column '{spellings[0]}' is missing", fix)
        if any(name not in self.positions for name in required):
            self.problems.raise_all()

    def __iter__(self) -> Iterator[Row]:
        return iter(self.table.rows)

    def cell(self, row: Row, name: str) -> str:
        """Return a cell by the column's name here; empty if the table lacks the column."""
        position = self.positions.get(name)
        return "" if position is None else row.cells[position]

    def code(self, row: Row, name: str, read: Callable[[str], Value | None]) -> Value | None:
        """Return the meaning of a cell; an unknown code becomes a problem of the table."""
        heading = self.table.columns[self.positions[name]] if name in self.positions else name
        return self.problems.code(read, self.cell(row, name), row.line, heading)

    def side(self, row: Row) -> Laterality | None:
        """Return the breast that the column `side` names."""
        found: Laterality | None = self.code(row, "side", codes.laterality)
        return found

    def soft(
        self, row: Row, name: str, read: Callable[[str], Value | None], remarks: "Remarks"
    ) -> Value | None:
        """Return the meaning of a cell; an unknown code is counted and means nothing."""
        try:
            return read(self.cell(row, name))
        except CodeError:
            remarks.add("code-unknown", f"{self.place(row)}, column '{name}'")
            return None

    def place(self, row: Row) -> str:
        """Return where a row is."""
        return self.table.place(row)


class Remarks:
    """Remarks that are counted, each code with its first place."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, code: str, place: str) -> None:
        """Count one case."""
        self._counts[code] += 1
        self._first.setdefault(code, place)

    def notes(self) -> list[Note]:
        """Return one remark a code."""
        return [
            Note(code, self._first[code] + (f" and {count - 1} more" if count > 1 else ""))
            for code, count in self._counts.items()
        ]


class Files:
    """Files of a folder by name, found whatever folders lie above them.

    Args:
        source: the folder.
        suffixes: endings in lower case.
    """

    def __init__(self, source: Path, suffixes: Iterable[str]):
        self.source = source
        endings = tuple(suffixes)
        self.paths = [
            path
            for path in paths_below(source)
            if path.name.lower().endswith(endings) and not path.name.startswith("._")
        ]
        self._named: dict[str, list[Path]] = {}
        for path in self.paths:
            self._named.setdefault(path.name.lower(), []).append(path)
        self.used: set[Path] = set()

    def find(self, name: str) -> Path | None:
        """Return the file whose path ends like `name`, with as many folders as decide."""
        parts = PurePosixPath(name.strip().replace("\\", "/")).parts
        found = self._named.get(parts[-1].lower(), []) if parts else []
        for count in range(2, len(parts) + 1):
            if len(found) < 2:
                break
            tail = tuple(part.lower() for part in parts[-count:])
            nearer = [p for p in found if tuple(q.lower() for q in p.parts[-count:]) == tail]
            found = nearer or found
        if len(found) != 1:
            return None
        self.used.add(found[0])
        return found[0]

    def relative(self, path: Path) -> str:
        """Return a path relative to the source."""
        return str(path.relative_to(self.source))

    def unused(self, remarks: Remarks) -> None:
        """Count the files that no row named."""
        for path in self.paths:
            if path not in self.used:
                remarks.add("image-without-row", self.relative(path))


def paths_below(source: Path) -> list[Path]:
    """Return the files of a folder in order, through linked folders too."""
    return sorted(path for path, reason in files_below(source) if not reason)


def unlisted(source: Path) -> list[Skipped]:
    """Return what of a folder cannot be listed, so that files below it may be missing."""
    return [
        Skipped(printable(path.relative_to(source).as_posix()), reason)
        for path, reason in files_below(source)
        if reason
    ]


def find_tables(source: Path, *names: str) -> list[Path]:
    """Return the files of the given names, in any case and folder, in the order of the names."""
    wanted = {name.lower(): number for number, name in enumerate(names)}
    found = [path for path in paths_below(source) if path.name.lower() in wanted]
    return sorted(found, key=lambda path: wanted[path.name.lower()])


def find_table(source: Path, *names: str) -> Path:
    """Return the first of the named files that is there.

    Raises:
        DataError: there is none.
    """
    found = find_tables(source, *names)
    if not found:
        fix = "Add the table as the set is published"
        raise DataError(f"{names[0]} is missing", where=str(source), fix=fix)
    return found[0]


def among(meanings: Mapping[str, Value]) -> Callable[[str], Value | None]:
    """Return a reader of a set's own codes, whatever their case; empty and NaN mean nothing."""
    plain = {plain_heading(code): meaning for code, meaning in meanings.items()}

    def read(text: str) -> Value | None:
        word = plain_heading(text)
        if word in ("", "nan"):
            return None
        if word not in plain:
            raise CodeError(", ".join(meanings))
        return plain[word]

    return read


def number(text: str) -> str:
    """Return an identifier without the .0 that pandas adds to whole numbers."""
    text = text.strip()
    return text[:-2] if text.endswith(".0") and text[:-2].isdigit() else text
