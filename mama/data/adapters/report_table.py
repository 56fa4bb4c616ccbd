"""Reports and labels of a hospital's studies, from the table beside its images.

    reports.csv, .tsv, .xlsx, .jsonl or .parquet, in any case; or reports/KEY.txt

Columns: `study` (StudyInstanceUID or AccessionNumber), or `accession`, or `patient` and `date`;
`report`; and optionally `laterality` (a row a breast) and labels. `reports.columns` maps them.
"""

from dataclasses import dataclass, field
from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.joining import Exam, Joiner, Keys
from mama.data.adapters.labels import COLUMNS as LABELS
from mama.data.adapters.labels import LabelReader
from mama.data.adapters.notes import Note
from mama.data.adapters.raw import Part
from mama.data.studies import Labels, Laterality, Split
from mama.data.tables import Problems, Row, Table, codes, read_table
from mama.data.tables.columns import Columns, choose
from mama.errors import DataError

TABLE = "reports.csv"
KINDS = (".csv", ".tsv", ".xlsx", ".jsonl", ".ndjson", ".parquet")
KEYS = ("study", "accession", "patient", "date")
KNOWN = (*KEYS, "report", "laterality", *LABELS)


@dataclass(frozen=True)
class Entry:
    """Report, labels and part of one study."""

    report: str | tuple[Part, ...] | None = field(default=None, repr=False)
    labels: Labels = field(default_factory=Labels)
    split: Split | None = None


@dataclass(frozen=True)
class Parsed:
    """One row whose codes are known."""

    row: Row
    keys: Keys = field(repr=False)
    side: Laterality | None
    report: str | None = field(repr=False)


class ReportTable:
    """Table of a folder: read at once, so that a mistake shows before the images are looked at.

    Args:
        source: the folder.
        config: column map, rule for addenda, and rules for patients' numbers.

    Raises:
        DataError: there is no table, or it has errors; all of them are named.
        ConfigError: the column map has an unknown name.
    """

    def __init__(self, source: Path, config: IngestConfig = DEFAULTS):
        self.config = config
        path = find_table(source)
        self.problems = Problems(path)
        self.table = read_table(path, problems=self.problems)
        self.columns = choose(
            self.table, KNOWN, self.problems, required=("report",), mapping=config.reports.columns
        )
        self._require_keys()
        self.labels = LabelReader(self.columns, self.problems)
        self.parsed = [
            _parse(self.table, row, self.columns, self.problems) for row in self.table.rows
        ]
        for one in self.parsed:
            self.labels.check(one.row, one.side)
        self.problems.raise_all()

    def join(self, exams: list[Exam]) -> tuple[dict[str, Entry], list[Note]]:
        """Give each study its rows.

        Returns:
            Entries by `Exam.study`, and remarks on rows and studies without a match.

        Raises:
            DataError: several rows are of one study and `reports.addenda` refuses that.
        """
        joiner = Joiner(exams, self.config.identity)
        matched: dict[str, list[Parsed]] = {}
        for one in self.parsed:
            study = joiner.find(one.keys, self.table.place(one.row))
            if study is not None:
                matched.setdefault(study, []).append(one)
        entries = {
            study: _entry(rows, self.labels, self.config, self.problems, self.columns)
            for study, rows in matched.items()
        }
        self.problems.raise_all()
        name = self.table.path.name
        notes = [Note(*remark) for remark in self.table.remarks]
        notes += [Note("column-unknown", f"{name} column '{c}'") for c in self.columns.unknown]
        if self.labels.validation:
            notes.append(Note("validation-as-training", name))
        notes += self._empty()
        without = [Note("study-without-report", e.place) for e in exams if e.study not in entries]
        return entries, [*notes, *joiner.notes(name), *without]

    def _empty(self) -> list[Note]:
        """Return the remark on reports that are a word for nothing, such as NULL."""
        rows = [
            one.row
            for one in self.parsed
            if not one.report and self.columns.cell(one.row, "report")
        ]
        return [Note("report-empty", self.table.place(row)) for row in rows]

    def _require_keys(self) -> None:
        columns = self.columns
        visit = "patient" in columns and "date" in columns
        keyed = visit or "study" in columns or "accession" in columns
        # A missing column that the map names is an error already, and may be the key.
        if not keyed and not self.problems.found:
            self.problems.add(
                1,
                "no column says which study a row is of",
                "Name it study or accession, or patient and date, or map columns to these names",
            )
        if not keyed or "report" not in columns:
            self.problems.raise_all()


def find_table(source: Path) -> Path:
    """Return the one table of reports in a folder.

    Raises:
        DataError: there is none, or more than one.
    """
    found = [
        path
        for path in sorted(source.iterdir())
        if (path.is_file() and path.stem.lower() == "reports" and path.suffix.lower() in KINDS)
        or (path.is_dir() and path.name.lower() == "reports" and _holds_text(path))
    ]
    if not found:
        fix = "Add a table with the columns study, report"
        raise DataError(f"{TABLE} is missing", where=str(source), fix=fix)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"several tables of reports: {names}", where=str(source), fix="Keep one")
    return found[0]


def _holds_text(folder: Path) -> bool:
    return any(path.suffix.lower() == ".txt" for path in folder.iterdir())


def _parse(table: Table, row: Row, columns: Columns, problems: Problems) -> Parsed:
    def code(name: str) -> str:
        return columns.cell(row, name)

    keys = Keys(
        study=codes.meaning(code("study")) or "",
        accession=codes.meaning(code("accession")) or "",
        patient=codes.meaning(code("patient")) or "",
        day=problems.code(codes.day, code("date"), row.line, columns.heading("date")) or "",
    )
    dated = codes.meaning(code("date")) is not None  # an unknown date is named as such
    if not (keys.study or keys.accession or (keys.patient and dated)):
        names = [name for name in KEYS if name in columns]
        fix = "Enter the StudyInstanceUID or AccessionNumber"
        if "study" not in names:
            fix = f"Fill {' and '.join(columns.heading(name) for name in names)}"
        problems.add(row.line, "empty cell", fix, columns.heading(names[0]))
    found = problems.code(codes.sides, code("laterality"), row.line, columns.heading("laterality"))
    return Parsed(
        row=row,
        keys=keys,
        side=found[0] if found and len(found) == 1 else None,
        report=codes.meaning(code("report")),
    )


def _entry(
    rows: list[Parsed],
    labels: LabelReader,
    config: IngestConfig,
    problems: Problems,
    columns: Columns,
) -> Entry:
    """Join the rows of one study: addenda by the rule, texts of one breast or of both.

    Each text keeps its own mark-up, and the side of its row.
    """
    texts: dict[Laterality | None, list[Part]] = {}
    kept: list[Parsed] = []
    for one in rows:
        repeated = one.side in texts
        if repeated and config.reports.addenda == "refuse":
            key = next(name for name in KEYS if name in columns)
            first = next(other.row.line for other in rows if other.side == one.side)
            fix = "Set data.ingest.reports.addenda to append or last, or keep one row a study"
            what = f"duplicate row for the study of line {first}"
            problems.add(one.row.line, what, fix, columns.heading(key))
        if repeated and config.reports.addenda == "last":
            texts[one.side] = []
            kept = [other for other in kept if other.side != one.side]
        texts.setdefault(one.side, [])
        kept.append(one)
        if one.report:
            texts[one.side].append(Part(one.report, one.side))
    parts = tuple(part for found in texts.values() for part in found)
    values, split = labels.read([(one.row, one.side) for one in kept])
    if len(parts) == 1 and parts[0].side is None:
        return Entry(parts[0].text, values, split)
    return Entry(parts or None, values, split)
