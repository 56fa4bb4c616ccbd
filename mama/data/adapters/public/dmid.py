"""Adapter for DMID (Oza et al. 2024), 510 films with a report each.

    **/IMG001.dcm or .tif               the film; the DICOM file counts if there are both
    **/Metadata.xlsx (or .csv)          a row a finding
    **/*report*/IMG001.txt or .docx     may be absent

The set links no films: each counts as a patient, so splits are by film and not by woman. Masks and
overlays are left out. The origin of x and y is not documented, so there are no boxes.
"""

import re
from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.captions import Finding
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Files, Remarks, Sheet, among, find_table, paths_below
from mama.data.adapters.raw import RawDataset, RawImage
from mama.data.studies import Laterality
from mama.data.tables.codes import CodeError
from mama.data.tables.documents import read_document
from mama.data.tables.text import read_bytes
from mama.errors import DataError

COLUMNS = {
    "film": ("ID", "Image ID", "Image"),
    "view": ("view", "views"),
    "tissue": ("background tissue", "tissue", "character of background tissue"),
    "kind": ("abnormality", "abnormalities", "class of abnormality"),
    "pathology": ("pathology", "severity"),
}
NEEDED = ("film", "view", "tissue", "kind", "pathology")
TISSUES = {"F": "F", "G": "G", "D": "D", "-": None}
PATHOLOGY = {"B": False, "M": True, "-": None}
KINDS = {
    "CALC": Finding("calcification"),
    "CIRC": Finding("mass", ("circumscribed",)),
    "SPIC": Finding("mass", ("spiculated",)),
    "MISC": Finding("mass", ("ill-defined",)),
    "ARCH": Finding("distortion"),
    "ASYM": Finding("asymmetry"),
    "NORM": None,
    "-": None,
}
VIEW = re.compile(r"(CC|MLO)(L|R)T?|(L|R)T?(CC|MLO)")
MASKS = re.compile(r"mask|roi|pixel|annotation", re.IGNORECASE)
ENDINGS = (".dcm", ".tif", ".tiff", ".png")


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read films, table and reports.

    Raises:
        DataError: the table is missing or has an unknown code. The message gives the line numbers.
    """
    table = Sheet(find_table(source, "Metadata.xlsx", "Metadata.csv"), COLUMNS, NEEDED)
    remarks = Remarks()
    films = _films(source, remarks)
    drafts: dict[str, Draft] = {}
    film = ""
    for row in table:
        film = key(table.cell(row, "film")) or film  # a further finding may leave the cell empty
        where = table.code(row, "view", view)
        density = table.code(row, "tissue", among(TISSUES))
        kinds = table.code(row, "kind", findings)
        cancer = table.code(row, "pathology", among(PATHOLOGY))
        if film not in films:
            remarks.add("row-without-image", table.place(row))
            continue
        draft = drafts.setdefault(film, Draft(film, film, density=density))
        if not draft.images:
            side = where[0] if where else None
            draft.images.append(RawImage(films[film], film, side, where[1] if where else None))
        side = draft.images[0].laterality
        if side is None:
            remarks.add("finding-without-side", table.place(row))
            continue
        draft.describe(side, kinds or ())
        draft.diagnose(side, cancer)
        breast = draft.breast(side)
        breast.suspicious = bool(breast.suspicious or cancer)
    table.problems.raise_all()
    for name in films.keys() - drafts.keys():
        remarks.add("image-without-row", str(films[name].relative_to(source)))
    _reports(source, drafts, remarks)
    return dataset(drafts.values(), config, remarks.notes())


def key(text: str) -> str:
    """Return a film's name without blanks and case, such as img001 of `IMG 001`."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def view(text: str) -> tuple[Laterality, str] | None:
    """Read side and view in one word, such as `CCLT` or `MLO RT`.

    Raises:
        CodeError: the word is neither.
    """
    word = re.sub(r"[^A-Z]", "", text.upper())
    if word in ("", "NAN"):
        return None
    match = VIEW.fullmatch(word)
    if not match:
        raise CodeError("CCLT, CCRT, MLOLT, MLORT")
    side = match[2] or match[3]
    return ("L" if side == "L" else "R"), match[1] or match[4]


def findings(text: str) -> list[Finding]:
    """Read findings joined by `+`, such as `CALC+SPIC`; NORM is none.

    Raises:
        CodeError: one is unknown.
    """
    found = [among(KINDS)(part) for part in text.split("+")]
    return [finding for finding in found if finding]


def _films(source: Path, remarks: Remarks) -> dict[str, Path]:
    """Return films by name; of several files the one whose ending comes first."""
    files = Files(source, ENDINGS)
    films: dict[str, Path] = {}
    for path in sorted(files.paths, key=lambda path: ENDINGS.index(path.suffix.lower())):
        if any(MASKS.search(part) for part in path.relative_to(source).parts):
            remarks.add("region-images", files.relative(path))
        else:
            films.setdefault(key(path.stem), path)
    return films


def _reports(source: Path, drafts: dict[str, Draft], remarks: Remarks) -> None:
    for path in paths_below(source):
        if path.suffix.lower() not in (".txt", ".docx") or not path.is_file():
            continue
        if "report" not in path.parent.name.lower():
            continue
        where = str(path.relative_to(source))
        if key(path.stem) not in drafts:
            remarks.add("report-without-study", where)
            continue
        try:
            drafts[key(path.stem)].reports.append(read_document(read_bytes(path), path))
        except DataError:
            remarks.add("report-unreadable", where)
