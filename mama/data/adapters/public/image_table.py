r"""Adapter for any folder of images (DICOM, PNG, JPEG, TIFF) with an `image_table.yaml` in it.

    table: labels.csv               # or .xlsx, .jsonl, .parquet; none if the paths say all
    columns: {file: Filename, patient: ID, birads: Score}
    pattern: 'Birad(?P<birads>\d)/(?P<patient>[^/]+)/[^/]*_(?P<laterality>[LR])'
    values: {birads: {"9": "0"}, findings: {N: ""}}
    constants: {view: MLO}

Names of columns and of groups in the pattern, which is searched in a path relative to the folder,
are those of `NAMES`. A row counts before the path, the path before the constants. A film with
several findings has several rows.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import field_validator

from mama.config.base import Section
from mama.config.ingest import DEFAULTS, IngestConfig
from mama.config.load import load
from mama.data.adapters.identity import no_id, require_own, require_shared
from mama.data.adapters.public.captions import Finding, english
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Files, Remarks, number
from mama.data.adapters.raw import RawBox, RawDataset, RawImage
from mama.data.studies import Laterality
from mama.data.tables import Problems, codes, read_table
from mama.data.tables.codes import CodeError
from mama.data.tables.columns import choose
from mama.errors import DataError

FILE = "image_table.yaml"
Name = Literal[
    "file", "patient", "study", "laterality", "view", "vendor", "density", "birads", "suspicious",
    "cancer", "findings", "split", "report", "x0", "y0", "x1", "y1",
]  # fmt: skip
NAMES: tuple[str, ...] = Name.__args__  # type: ignore[attr-defined]
EXAM = 4  # usual images
ENDINGS = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm")

Value = TypeVar("Value")


class ImageTable(Section):
    """Description of a folder of images."""

    table: str | None = None
    """Path of the table, relative to the folder."""
    sheet: str | None = None
    """Sheet of an Excel table; the first if null."""
    columns: dict[Name, str] = {}
    """Columns of the table by their names here."""
    pattern: str | None = None
    """Regular expression with named groups, searched in the paths of images."""
    values: dict[Name, dict[str, str]] = {}
    """Meanings of the table's own codes, by column."""
    constants: dict[Name, str] = {}
    """Cells that are the same for all images."""
    share_weights: bool = True
    """True if the images' licence lets weights trained on them leave the site."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            groups = re.compile(pattern or "").groupindex
        except re.error:
            raise ValueError("is not a regular expression") from None
        if unknown := sorted(groups.keys() - set(NAMES)):
            raise ValueError(f"has an unknown group {unknown[0]}")
        return pattern


@dataclass(frozen=True)
class Described:
    """One row, or one image without a table: the path of its image, and cells by name."""

    line: int
    relative: str = field(repr=False)
    path: Path = field(repr=False)
    cells: dict[str, str] = field(repr=False)


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the images of a folder as its `image_table.yaml` says.

    Raises:
        ConfigError: the description is missing or has a mistake.
        DataError: the table is missing or has an unknown code, or an image has neither patient nor
            study. The message gives the line numbers.
    """
    description = load(ImageTable, source / FILE)
    files, remarks = Files(source, ENDINGS), Remarks()
    problems = Problems(source / (description.table or FILE))
    drafts: dict[str, Draft] = {}
    images: dict[Path, Draft] = {}
    for one in _described(source, description, files, remarks, problems):
        _add(one, description, drafts, images, problems)
    problems.raise_all()
    _require_ids(drafts.values(), description)
    if description.table:
        files.unused(remarks)
    return dataset(
        drafts.values(), config, remarks.notes(), share_weights=description.share_weights
    )


def _require_ids(drafts: Iterable[Draft], description: ImageTable) -> None:
    """Refuse ids that cannot be those of patients; where only studies are named, they are both."""
    studies = [draft for draft in drafts if draft.images]
    groups = re.compile(description.pattern or "").groupindex
    named = "patient" in {*description.columns, *description.constants, *groups}
    keys: Counter[str] = Counter()
    for draft in studies:  # a patient's images may be of several exams
        keys["" if no_id(draft.patient) else draft.patient] += -(-len(draft.images) // EXAM)
    fix = "Name the patient's column, or a group `patient` of the pattern; "
    fix += "if each image is another patient's, name its id `study` and no patient"
    try:
        require_shared(keys, keys.total())
        if named:
            images: Counter[str] = Counter()
            for draft in studies:
                images[draft.patient] += len(draft.images)
            require_own(images, fix)
    except DataError as error:
        raise DataError(error.what, where=f"{FILE}: patient", fix=fix) from None


def _described(
    source: Path, description: ImageTable, files: Files, remarks: Remarks, problems: Problems
) -> Iterator[Described]:
    """Yield rows with their images, or images alone if there is no table."""
    if description.table is None:
        for path in files.paths:
            relative = path.relative_to(source).as_posix()
            yield Described(1, relative, path, _cells(relative, {}, description))
        return
    table = read_table(source / description.table, sheet=description.sheet, problems=problems)
    mapping = {str(name): column for name, column in description.columns.items()}
    columns = choose(table, NAMES, problems, required=("file",), mapping=mapping)
    if "file" not in columns:
        problems.raise_all()
    for row in table.rows:
        name = columns.cell(row, "file")
        candidates = (name, *(f"{name}{ending}" for ending in ENDINGS)) if name else ()
        found = next(filter(None, map(files.find, candidates)), None)
        if found is None:
            remarks.add("row-without-image", table.place(row))
            continue
        own = {n: columns.cell(row, n) for n in NAMES if columns.cell(row, n)}
        relative = found.relative_to(source).as_posix()
        yield Described(row.line, relative, found, _cells(relative, own, description))


def _cells(relative: str, own: dict[str, str], description: ImageTable) -> dict[str, str]:
    match = re.search(description.pattern, relative) if description.pattern else None
    groups = {name: text for name, text in (match.groupdict() if match else {}).items() if text}
    cells: dict[str, str] = {str(name): text for name, text in description.constants.items()}
    cells |= groups | own
    for name, meanings in description.values.items():
        cells[name] = meanings.get(cells.get(name, ""), cells.get(name, ""))
    return cells


class _Reader:
    """Reads the cells of one row as codes; unknown ones become problems."""

    def __init__(self, one: Described, description: ImageTable, problems: Problems):
        self.one, self.problems = one, problems
        self.headings = {str(name): column for name, column in description.columns.items()}

    def text(self, name: str) -> str:
        """Return a cell, empty if it means nothing."""
        return codes.meaning(self.one.cells.get(name, "")) or ""

    def code(self, name: str, read: Callable[[str], Value | None]) -> Value | None:
        """Return the meaning of a cell."""
        heading = self.headings.get(name, name)
        return self.problems.code(read, self.text(name), self.one.line, heading)


def _add(
    one: Described,
    description: ImageTable,
    drafts: dict[str, Draft],
    images: dict[Path, Draft],
    problems: Problems,
) -> None:
    """Add an image, or a further finding of one, to its study."""
    row = _Reader(one, description, problems)
    patient, study = number(row.text("patient")), number(row.text("study"))
    if not (patient or study):
        problems.add(one.line, "neither patient nor study", "Name one in columns or pattern")
        return
    # Studies are often numbered within a patient.
    name = f"{patient}/{study}" if patient and study and patient != study else study or patient
    draft = drafts.setdefault(name, Draft(patient or study, name))
    side: Laterality | None = row.code("laterality", codes.laterality)
    view = row.code("view", codes.view)
    box = row.code("x0", lambda text: _box(text, row))
    if one.path in images:
        _box_of(images[one.path], one.relative, box)
    else:
        images[one.path] = draft
        boxes = (box,) if box else ()
        vendor = row.text("vendor") or None
        draft.images.append(RawImage(one.path, one.relative, side, view, vendor, boxes=boxes))
    draft.split = row.code("split", codes.split) or draft.split
    draft.dense(row.code("density", codes.density))
    if report := row.text("report"):
        draft.reports.append(report)
    _label(row, draft, side)


def _label(row: _Reader, draft: Draft, side: Laterality | None) -> None:
    birads = row.code("birads", codes.birads)
    cancer = row.code("cancer", codes.flag)
    suspicious = row.code("suspicious", codes.flag)
    found = row.code("findings", findings)
    if side is None:
        if any(value is not None for value in (birads, cancer, suspicious, found)):
            what = "labels of a breast without its laterality"
            row.problems.add(row.one.line, what, "Name the laterality in columns or pattern")
        return
    if birads:
        draft.rate(side, birads)
    draft.diagnose(side, cancer)
    if suspicious is not None:
        breast = draft.breast(side)
        breast.suspicious = suspicious or bool(breast.suspicious)
    if found is not None:
        draft.describe(side, found)


def findings(text: str) -> list[Finding] | None:
    """Read kinds of findings between commas, semicolons, | or +; `normal` is a breast without any.

    Raises:
        CodeError: a kind is unknown.
    """
    if not text:
        return None
    names = [re.sub(r"[\s-]+", "_", part.strip().lower()) for part in re.split(r"[,;|+]", text)]
    if names == ["normal"]:
        return []
    if any(name not in english().findings for name in names):
        raise CodeError(", ".join((*english().findings, "normal")))
    return [Finding(name) for name in names]


def _box(text: str, row: _Reader) -> RawBox | None:
    if not text:
        return None
    try:
        x0, y0, x1, y1 = (float(row.text(name)) for name in ("x0", "y0", "x1", "y1"))
    except ValueError:
        raise CodeError("numbers in x0, y0, x1, y1") from None
    if not (x0 < x1 and y0 < y1):
        raise CodeError("a box with an area")
    return RawBox(x0, y0, x1, y1, row.text("findings") or "finding")


def _box_of(draft: Draft, image: str, box: RawBox | None) -> None:
    """Add a box to an image that an earlier row named."""
    if box:
        draft.images = [
            replace(one, boxes=(*one.boxes, box)) if one.id == image else one
            for one in draft.images
        ]
