"""Tables of any usual kind: separated text, Excel, JSON lines, Parquet, or a folder of texts."""

from pathlib import Path

from mama.data.tables.delimited import find_separator, records
from mama.data.tables.problems import Problems
from mama.data.tables.quotes import Keys, swallowed
from mama.data.tables.records import read_folder, read_json_lines, read_parquet
from mama.data.tables.sheets import read_sheet
from mama.data.tables.table import Row, Table
from mama.data.tables.text import decode, read_bytes
from mama.errors import DataError

OLD_EXCEL = b"\xd0\xcf\x11\xe0"
QUOTES = "Put reports that contain the separator in quotes"


def read_table(path: Path, *, sheet: str | None = None, problems: Problems | None = None) -> Table:
    """Read a table; the file's content decides its kind, not its name.

    Args:
        path: the file, or a folder with one text a study.
        sheet: sheet of an Excel file; the first if None.
        problems: gets the errors of single rows; if None, they are raised together.

    Raises:
        DataError: the table is missing or of no known kind, or has invalid rows. The message names
            the lines and quotes no cell.
    """
    if path.is_dir():
        return read_folder(path)
    found = problems or Problems(path)
    try:
        with open(path, "rb") as handle:
            start = handle.read(4)
    except FileNotFoundError:
        raise DataError("no such table", where=str(path), fix="Check the path") from None
    if start == OLD_EXCEL:
        fix = "Save it as .xlsx or CSV"
        raise DataError("the table is an old Excel file (.xls)", where=str(path), fix=fix)
    if start == b"PK\x03\x04":
        table = read_sheet(path, sheet, found)
    elif start == b"PAR1":
        table = read_parquet(path)
    else:
        text, guessed = decode(read_bytes(path), path)
        if path.suffix.lower() in (".jsonl", ".ndjson") or text.lstrip()[:1] == "{":
            table = read_json_lines(path, text, found)
        else:
            table = read_delimited(path, text, found)
        if guessed:
            remarks = (*table.remarks, ("table-encoding", path.name))
            table = Table(table.path, table.columns, table.rows, remarks)
    if problems is None:
        found.raise_all()
    return table


def read_delimited(path: Path, text: str, problems: Problems) -> Table:
    """Cut text into rows of as many cells as the header; other rows become problems."""
    position, line = 0, 1
    if text[:4].lower() == "sep=" and text[4:5] and text[5:6] in ("\r", "\n"):
        separator = text[4]  # as Excel writes it
        position, line = next(records(text, "\0")).end, 2
    else:
        separator = find_separator(text)
    header = next((one for one in records(text, separator, position, line) if not one.blank), None)
    if header is None:
        return Table(path, (), ())
    columns = [cell.strip() for cell in header.cells]
    while columns and not columns[-1]:  # separators at the end of lines
        columns.pop()
    line = header.line + text.count("\n", header.start, header.end)
    if header.unclosed or header.opened:
        problems.add(header.line, "a quote is not closed", "Close it")
        return Table(path, tuple(columns), ())
    rows = _rows(text, separator, (header.end, max(line, header.line + 1)), len(columns), problems)
    return Table(path, tuple(columns), tuple(rows))


def _rows(
    text: str, separator: str, start: tuple[int, int], width: int, problems: Problems
) -> list[Row]:
    rows: list[Row] = []
    keys, longest = Keys(width), 1
    while True:
        again: tuple[int, int] | None = None
        for record in records(text, separator, *start):
            if record.blank:
                continue
            if swallowed(record, keys, longest, separator):
                fix = "Close the quote at the end of the cell, and double quotes within cells"
                problems.add(record.line, "a quote is not closed: the rows below are lost", fix)
                again = next(keys.rows_inside(record, text, separator), None)
                break
            cells = [cell.strip() for cell in record.cells]
            while len(cells) > width and not cells[-1]:
                cells.pop()
            if len(cells) != width:
                what = f"the row has {len(cells)} cells, the header {width} columns"
                problems.add(record.line, what, QUOTES)
                continue
            keys.learn(record)
            lengths = (cell.count("\n") + 1 for cell in record.cells)
            longest = max(longest, *lengths)
            if any(cells):
                rows.append(Row(record.line, tuple(cells)))
        if again is None:
            return rows
        start = again
