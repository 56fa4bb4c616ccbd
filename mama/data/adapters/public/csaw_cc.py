"""Adapter for CSAW-CC (Dembrower et al. 2020), screening images of cases and controls.

    **/PATIENT_20990909_SIDE_VIEW_SEQ.dcm   an exam is a patient's images of one last number
    **/*.csv                                a row an image

The set has neither reports nor BI-RADS. Cancer is known of the breast at diagnosis (rad_timing 1)
and of controls; exams of cases before that get no label, since the cancer may not be there yet.
"""

import re
from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Files, Remarks, Sheet, among, number, paths_below
from mama.data.adapters.raw import RawDataset, RawImage
from mama.data.studies import Laterality
from mama.data.tables import Row, codes
from mama.errors import DataError

NAME = re.compile(r"(.+)_\d{8}_(L|R|Left|Right)_(CC|MLO)_(\d+)\.dcm", re.IGNORECASE)
COLUMNS = {
    "patient": ("anon_patientid",),
    "file": ("anon_filename",),
    "side": ("imagelaterality",),
    "view": ("viewposition",),
    "case": ("x_case",),
    "cancer": ("x_cancer_laterality",),
    "timing": ("rad_timing",),
}
AT_DIAGNOSIS, UP_TO_2_YEARS, EARLIER = "1", "2", "3"
TIMINGS = {code: code for code in (AT_DIAGNOSIS, UP_TO_2_YEARS, EARLIER)}
TIMINGS |= {f"{code}.0": code for code in TIMINGS}
BOTH: tuple[Laterality, ...] = ("L", "R")


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the table and the images; rows and images without a partner are counted.

    Raises:
        DataError: the table is missing or has an unknown code. The message gives the line numbers.
    """
    table = _table(source)
    files, remarks = Files(source, (".dcm",)), Remarks()
    drafts: dict[str, Draft] = {}
    for row in table:
        patient = number(table.cell(row, "patient"))
        side = table.side(row)
        view = table.code(row, "view", codes.view)
        cancer = _cancer(table, row)
        name = Path(table.cell(row, "file")).name
        path = files.find(name if name.lower().endswith(".dcm") else f"{name}.dcm")
        match = NAME.fullmatch(path.name) if path else None
        if path is None or match is None:
            remarks.add("row-without-image", table.place(row))
            continue
        exam = f"{patient}_{match[4]}"
        draft = drafts.setdefault(exam, Draft(patient, exam))
        for breast, found in cancer.items():
            draft.diagnose(breast, found)
        draft.images.append(RawImage(path, path.stem, side, view))
    table.problems.raise_all()
    files.unused(remarks)
    return dataset(drafts.values(), config, remarks.notes())


def _table(source: Path) -> Sheet:
    """Return the table, which is known by its columns, since releases name it differently."""
    for path in paths_below(source):
        if path.suffix.lower() != ".csv":
            continue
        with open(path, encoding="utf-8-sig", errors="replace") as handle:
            header = handle.readline(10_000).lower()
        if "anon_filename" in header:
            return Sheet(path, COLUMNS, COLUMNS)
    fix = "Add the table as the set is published"
    raise DataError("no table with the column anon_filename", where=str(source), fix=fix)


def _cancer(table: Sheet, row: Row) -> dict[Laterality, bool]:
    """Return for each breast of an exam whether it has cancer, where that is known."""
    case = table.code(row, "case", codes.flag)
    sides = table.code(row, "cancer", codes.sides) or ()
    timing = table.code(row, "timing", among(TIMINGS))
    if case is False:
        return dict.fromkeys(BOTH, False)
    if case and sides and timing == AT_DIAGNOSIS:
        return {side: side in sides for side in BOTH}
    return {}
