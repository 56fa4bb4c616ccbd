"""Excel tables (.xlsx)."""

import zipfile
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from mama.data.tables.problems import Problems
from mama.data.tables.records import as_text
from mama.data.tables.table import Row, Table
from mama.data.tables.text import MOST_BYTES
from mama.errors import DataError


def read_sheet(path: Path, sheet: str | None, problems: Problems) -> Table:
    """Read one sheet of an Excel file, the first unless named; formulas give their last values.

    Raises:
        DataError: the file is damaged or too large, or has no such sheet.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            fix = "Split it, or remove columns"
            raise DataError("the table is larger than 1 GB", where=str(path), fix=fix)
        with open(path, "rb") as handle:
            lines = _lines(handle, path, sheet)
    except DataError:
        raise
    except Exception:  # openpyxl raises almost anything for a damaged file, and quotes it
        fix = "Save it as .xlsx or CSV"
        raise DataError("not a readable Excel file", where=str(path), fix=fix) from None
    return _table(path, lines, problems)


def _lines(handle: BinaryIO, path: Path, sheet: str | None) -> list[tuple[int, list[str]]]:
    """Return number and cells of each row that is not empty."""
    import openpyxl  # 0.2 s, and most tables are CSV

    book = openpyxl.load_workbook(handle, read_only=True, data_only=True)
    if sheet is not None and sheet not in book.sheetnames:
        fix = f"Name one of the file's {len(book.sheetnames)} sheets"
        raise DataError(f"no sheet '{sheet}'", where=str(path), fix=fix)
    content = book[sheet] if sheet is not None else book.worksheets[0]
    content.reset_dimensions()  # some programs write wrong ones
    rows = enumerate(content.iter_rows(values_only=True), 1)
    lines = [(line, [as_text(cell) for cell in cells]) for line, cells in rows]
    return [(line, cells) for line, cells in lines if any(cells)]


def _table(path: Path, lines: list[tuple[int, list[str]]], problems: Problems) -> Table:
    if not lines:
        return Table(path, (), ())
    columns = lines[0][1]
    while columns and not columns[-1]:
        columns.pop()
    rows = []
    for line, cells in lines[1:]:
        if any(cells[len(columns) :]):
            what = f"the row has cells beyond the {len(columns)} columns of the header"
            problems.add(line, what, "Give each column a name in the first row")
            continue
        pairs = zip_longest(columns, cells[: len(columns)], fillvalue="")
        rows.append(Row(line, tuple(cell for _, cell in pairs)))
    return Table(path, tuple(columns), tuple(rows))
