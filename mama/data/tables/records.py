"""Tables that name the columns in each record: JSON lines, Parquet, and a folder of texts."""

import json
from pathlib import Path
from typing import Any

from mama.data.tables.problems import Problems
from mama.data.tables.table import Row, Table
from mama.data.tables.text import decode, read_bytes
from mama.errors import DataError


def read_json_lines(path: Path, text: str, problems: Problems) -> Table:
    """Read one object a line; numbers keep the digits they are written with."""
    found: list[tuple[int, dict[str, str]]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            problems.add(number, "the line is not a JSON object", "Write one object a line")
            continue
        cells = {str(name).strip(): as_text(cell) for name, cell in value.items()}
        columns |= dict.fromkeys(cells)
        found.append((number, cells))
    rows = (Row(line, tuple(cells.get(name, "") for name in columns)) for line, cells in found)
    return Table(path, tuple(columns), tuple(rows))


def read_parquet(path: Path) -> Table:
    """Read a Parquet file; its first row counts as line 2, as if there were a header.

    Raises:
        DataError: pyarrow is not installed, or the file is damaged.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        fix = "Install it with `pip install fedmama[parquet]`, or save the table as CSV"
        raise DataError("Parquet needs pyarrow", where=str(path), fix=fix) from None
    try:
        content = parquet.read_table(path)
    except Exception:  # pyarrow's errors quote the file
        fix = "Export it again"
        raise DataError("the Parquet file is damaged", where=str(path), fix=fix) from None
    lists = [[as_text(cell) for cell in column.to_pylist()] for column in content.columns]
    columns = tuple(str(name).strip() for name in content.column_names)
    rows = (Row(line, cells) for line, cells in enumerate(zip(*lists, strict=True), 2))
    return Table(path, columns, tuple(rows))


def read_folder(path: Path) -> Table:
    """Read a folder of .txt files, one a study, as columns `study` (the name) and `report`."""
    rows = []
    remarks = []
    named = (file for file in path.iterdir() if file.suffix.lower() == ".txt")
    files = sorted(file for file in named if not file.name.startswith("._") and not file.is_dir())
    for number, file in enumerate(files, 1):
        try:
            text, guessed = decode(read_bytes(file), file)
        except (DataError, OSError):
            remarks.append(("report-unreadable", f"{path.name}/{file.name}"))
            continue
        if guessed:
            remarks.append(("table-encoding", f"{path.name}/{file.name}"))
        rows.append(Row(number, (file.stem.strip(), text.strip()), file.name))
    return Table(path, ("study", "report"), tuple(rows), tuple(remarks))


def as_text(value: Any) -> str:
    """Return a typed cell as text: empty for None and NaN, 3 for 3.0, dates as in ISO 8601."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if hasattr(value, "isoformat"):
        return value.isoformat().removesuffix("T00:00:00")
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value).strip()
