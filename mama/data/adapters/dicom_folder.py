"""A folder of DICOM mammograms and a table of reports, as a hospital exports them.

    FOLDER/dicom/**         DICOM files with any names (or anywhere under FOLDER)
    FOLDER/reports.csv      UTF-8; one row a study

Columns of `reports.csv`: `study` (StudyInstanceUID or AccessionNumber), `report` (free text), and
where known `density` (A, B, C, D), `suspicious_left`, `suspicious_right` (0, 1), `split`
(train, test). Only these; a cell may be empty. Error messages quote no cell.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mama.data.adapters.raw import RawDataset, RawImage, RawStudy, Skipped
from mama.data.dicom import Header, ImageError, is_dicom, read_header
from mama.data.studies import Labels
from mama.errors import DataError

TABLE = "reports.csv"
REQUIRED = ("study", "report")
ALLOWED: dict[str, tuple[str, ...]] = {
    "density": ("A", "B", "C", "D"),
    "suspicious_left": ("0", "1"),
    "suspicious_right": ("0", "1"),
    "split": ("train", "test"),
}
LONGEST_CELL = 10_000_000  # characters; Python's own limit of 131072 is short for a long report


@dataclass(frozen=True)
class Row:
    """One row of the table and the line it begins on."""

    line: int
    cells: dict[str, str] = field(repr=False)


def read(source: Path) -> RawDataset:
    """Read headers and reports of a folder.

    Raises:
        DataError: no table, or a wrong column, code or duplicate in it, by line number.
    """
    table = source / TABLE
    rows = _read_table(table)
    headers, skipped = _read_headers(source / "dicom" if (source / "dicom").is_dir() else source)
    used: set[str] = set()
    studies = []
    for uid, images in sorted(headers.items()):
        keys = {uid, *(header.accession for _, header in images if header.accession)} & rows.keys()
        if len(keys) > 1:
            raise _duplicate(table, max(rows[key].line for key in keys))
        used |= keys
        cells = rows[keys.pop()].cells if keys else {}
        studies.append(_study(uid, images, cells))
    return RawDataset(tuple(studies), tuple(skipped), len(rows) - len(used))


def _study(uid: str, images: list[tuple[Path, Header]], cells: dict[str, str]) -> RawStudy:
    suspicious = {
        side: cells[column] == "1"
        for side, column in (("L", "suspicious_left"), ("R", "suspicious_right"))
        if cells.get(column)
    }
    values: Any = {"split": cells.get("split") or None, "suspicious": suspicious or None}
    return RawStudy(
        # A study without any PatientID is its own patient.
        patient=min((header.patient for _, header in images if header.patient), default=uid),
        study=uid,
        split=values["split"],
        images=tuple(
            RawImage(path, header.image, header.laterality, header.view, header.vendor)
            for path, header in images
        ),
        report=cells.get("report"),
        labels=Labels(density=cells.get("density") or None, suspicious=values["suspicious"]),
    )


def _read_headers(
    folder: Path,
) -> tuple[dict[str, list[tuple[Path, Header]]], list[Skipped]]:
    """Images by StudyInstanceUID, each SOPInstanceUID once."""
    studies: dict[str, list[tuple[Path, Header]]] = defaultdict(list)
    skipped: list[Skipped] = []
    seen: set[str] = set()
    for path in _candidates(folder):
        try:
            header = read_header(path)
            if header.image in seen:
                raise ImageError("duplicate", path)
        except ImageError as error:
            skipped.append(Skipped(path.name, error.reason))
            continue
        seen.add(header.image)
        studies[header.study].append((path, header))
    return studies, skipped


def _candidates(folder: Path) -> Iterator[Path]:
    """Files that are or claim to be DICOM images, in the order of their paths."""
    for path in sorted(folder.rglob("*")):
        if path.name == "DICOMDIR" or not path.is_file():
            continue
        if path.suffix.lower() in (".dcm", ".dicom") or is_dicom(path):
            yield path


def _read_table(path: Path) -> dict[str, Row]:
    """Rows by their `study` cell."""
    csv.field_size_limit(LONGEST_CELL)
    rows: dict[str, Row] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            columns = [name.strip().lower() for name in next(reader, [])]
            _check_columns(columns, path)
            begin = reader.line_num + 1
            for values in reader:
                if values:
                    row = _row(columns, values, begin, path)
                    if row.cells["study"] in rows:
                        raise _duplicate(path, begin)
                    rows[row.cells["study"]] = row
                begin = reader.line_num + 1
    except FileNotFoundError:
        fix = f"Put a table with the columns {', '.join(REQUIRED)} there"
        raise DataError(f"no {TABLE}", where=str(path.parent), fix=fix) from None
    except (UnicodeDecodeError, csv.Error):
        fix = "Save it as CSV in UTF-8"
        raise DataError("the table is no CSV text in UTF-8", where=str(path), fix=fix) from None
    return rows


def _check_columns(columns: list[str], path: Path) -> None:
    where = f"{path}, line 1"
    for name in REQUIRED:
        if name not in columns:
            raise DataError(f"column '{name}' is missing", where=where, fix="Add it to the header")
    for number, name in enumerate(columns, 1):
        if name not in (*REQUIRED, *ALLOWED) or columns.index(name) != number - 1:
            fix = f"Keep only {', '.join((*REQUIRED, *ALLOWED))}, each once"
            raise DataError(f"column {number} is unknown or repeated", where=where, fix=fix)


def _row(columns: list[str], values: list[str], line: int, path: Path) -> Row:
    if len(values) != len(columns):
        raise DataError(
            f"{len(values)} cells under {len(columns)} columns",
            where=f"{path}, line {line}",
            fix="Quote reports that contain commas",
        )
    cells = {column: value.strip() for column, value in zip(columns, values, strict=True)}
    if "density" in cells:
        cells["density"] = cells["density"].upper()
    where = f"{path}, line {line}, column"
    if not cells["study"]:
        fix = "Give the StudyInstanceUID or AccessionNumber"
        raise DataError("empty cell", where=f"{where} 'study'", fix=fix)
    for column, allowed in ALLOWED.items():
        if cells.get(column, "") not in (*allowed, ""):
            fix = f"Use {', '.join(allowed)}, or leave it empty"
            raise DataError("unknown value", where=f"{where} '{column}'", fix=fix)
    return Row(line, cells)


def _duplicate(path: Path, line: int) -> DataError:
    return DataError(
        "a second row for the same study",
        where=f"{path}, line {line}, column 'study'",
        fix="Keep one row a study",
    )
