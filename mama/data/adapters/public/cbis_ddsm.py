"""Adapter for CBIS-DDSM (Lee et al. 2017), scanned films with findings.

    **/*.dcm                                        films, crops and masks with any names
    **/{mass,calc}_case_description_{train,test}_set.csv    may be absent

The header has a PatientID an image, such as Mass-Training_P_00001_LEFT_CC, of which P_00001 is the
patient; a number at its end marks crops and masks, which are left out. The paths in the tables are
those of the first release, so rows join by patient, side and view. A patient has one exam; a film
that is among the masses and the calcifications counts once.
"""

import re
from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.captions import Finding
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Remarks, Sheet, among, find_tables, paths_below
from mama.data.adapters.raw import RawDataset, RawImage, Skipped
from mama.data.dicom.file import open_dataset, quiet
from mama.data.dicom.reasons import ImageError
from mama.data.studies import Laterality
from mama.data.tables import Row, codes

NAME = re.compile(
    r"(?:Mass|Calc)-(Training|Test)_(P_\d+)_(LEFT|RIGHT)_(CC|MLO)(_\d+)?", re.IGNORECASE
)
TABLES = [
    f"{kind}_case_description_{part}_set.csv"
    for kind in ("mass", "calc")
    for part in ("train", "test")
]
COLUMNS = {
    "patient": ("patient_id",),
    "density": ("breast_density", "breast density"),
    "side": ("left or right breast", "side"),
    "view": ("image view", "view"),
    "shape": ("mass shape", "mass_shape"),
    "margins": ("mass margins", "mass_margins"),
    "type": ("calc type", "calc_type"),
    "distribution": ("calc distribution", "calc_distribution"),
    "birads": ("assessment",),
    "pathology": ("pathology",),
}
NEEDED = ("patient", "side", "view", "birads", "pathology")
PATHOLOGY = {"MALIGNANT": True, "BENIGN": False, "BENIGN_WITHOUT_CALLBACK": False}
# Shapes that are findings of their own kind.
OTHER_SHAPES = {
    "architectural distortion": "distortion",
    "asymmetric breast tissue": "asymmetry",
    "focal asymmetric density": "focal_asymmetry",
    "lymph node": "lymph_node",
}
TAGS = ["PatientID", "SOPInstanceUID", "Rows", "SeriesDescription"]
CUT = re.compile(r"crop|roi|mask", re.IGNORECASE)  # series of regions
Films = dict[tuple[str, Laterality, str], RawImage]


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the films of a folder, and the tables if they are there.

    Raises:
        DataError: a table has an unknown code. The message gives the line numbers.
    """
    remarks = Remarks()
    drafts: dict[str, Draft] = {}
    films: Films = {}
    skipped = _films(source, drafts, films, remarks)
    for path in find_tables(source, *TABLES):
        table = Sheet(path, COLUMNS, NEEDED)
        for row in table:
            _row(table, row, drafts, films, remarks)
        table.problems.raise_all()
    return dataset(drafts.values(), config, remarks.notes(), skipped=skipped)


def _films(source: Path, drafts: dict[str, Draft], films: Films, remarks: Remarks) -> list[Skipped]:
    skipped: list[Skipped] = []
    for path in paths_below(source):
        if path.suffix.lower() != ".dcm" or path.name.startswith("._") or not path.is_file():
            continue
        where = str(path.relative_to(source))
        try:
            name, image, series = _header(path)
        except ImageError as error:
            skipped.append(Skipped(where, error.reason))
            continue
        match = NAME.fullmatch(name)
        if not match:
            skipped.append(Skipped(where, "not-a-mammogram"))
            continue
        part, patient, side, view, region = match.groups()
        if region or CUT.search(series):
            remarks.add("region-images", where)
            continue
        draft = drafts.setdefault(patient.upper(), Draft(patient.upper(), patient.upper()))
        if draft.split and (draft.split == "test") != (part.lower() == "test"):
            # Whoever is in the test part of either half of the set stays out of training.
            draft.split = "test"
            remarks.add("part-conflict", where)
        else:
            draft.split = "test" if part.lower() == "test" else "train"
        laterality: Laterality = "L" if side.upper() == "LEFT" else "R"
        key = (patient.upper(), laterality, view.upper())
        if key in films:
            remarks.add("same-film", where)
            continue
        films[key] = RawImage(path, image, laterality, view.upper())
        draft.images.append(films[key])
    return skipped


def _header(path: Path) -> tuple[str, str, str]:
    """Return PatientID, SOPInstanceUID and SeriesDescription.

    Raises:
        ImageError: the file is damaged, or has no pixels or identifiers.
    """
    with quiet(path), open(path, "rb") as handle:
        header = open_dataset(handle, path, stop_before_pixels=True, specific_tags=TAGS)
        patient, image, rows, series = (str(header.get(tag) or "").strip() for tag in TAGS)
    if not rows:
        raise ImageError("not-a-mammogram", path)
    if not image:
        raise ImageError("no-identifiers", path)
    return patient, image, series


def _row(table: Sheet, row: Row, drafts: dict[str, Draft], films: Films, remarks: Remarks) -> None:
    patient = table.cell(row, "patient").upper()
    side = table.side(row)
    view = table.code(row, "view", codes.view)
    birads = table.code(row, "birads", codes.birads)
    cancer = table.code(row, "pathology", among(PATHOLOGY))
    density = table.code(row, "density", _density)
    if side is None or view is None or (patient, side, view) not in films:
        remarks.add("row-without-image", table.place(row))
        return
    draft = drafts[patient]
    draft.label(side, density, birads, cancer)
    draft.describe(side, _findings(table, row))


def _density(text: str) -> str | None:
    return None if text.strip() == "0" else codes.density(text)  # some films were not rated


def _findings(table: Sheet, row: Row) -> list[Finding]:
    if "type" in table.positions or table.name.lower().startswith("calc"):
        words = (*_words(table.cell(row, "distribution")), *_words(table.cell(row, "type")))
        return [Finding("calcification", words)]
    shapes = _words(table.cell(row, "shape"))
    margins = _words(table.cell(row, "margins"))
    others = [Finding(OTHER_SHAPES[shape]) for shape in shapes if shape in OTHER_SHAPES]
    plain = tuple(shape for shape in shapes if shape not in OTHER_SHAPES)
    return others if others and not plain else [Finding("mass", (*plain, *margins)), *others]


def _words(text: str) -> tuple[str, ...]:
    """Return descriptors joined by `-`, such as ILL_DEFINED-SPICULATED, as words."""
    parts = (part.replace("_", " ").strip().lower() for part in text.split("-"))
    return tuple(
        {"ill defined": "ill-defined"}.get(part, part)
        for part in parts
        if re.fullmatch(r"[a-z ]+", part)
    )
