"""Adapter for CDD-CESM (Khaled et al. 2022), contrast-enhanced mammography of 326 patients.

    **/P1_L_DM_MLO.jpg                      low-energy images; subtracted ones (CM) are left out
    **/Radiology-manual-annotations.xlsx    sheet `all`, a row an image
    **/Medical reports for cases.zip        P1.docx in English, also unpacked; may be absent

Several findings of an image are joined by `$`, as are their categories, of which the most severe
counts.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.captions import Finding
from mama.data.adapters.public.draft import SEVERITY, Draft, dataset
from mama.data.adapters.public.files import (
    Files,
    Remarks,
    Sheet,
    among,
    find_table,
    number,
    paths_below,
)
from mama.data.adapters.raw import RawDataset, RawImage
from mama.data.tables import codes
from mama.data.tables.documents import read_document, read_member
from mama.data.tables.text import read_bytes
from mama.errors import DataError

TABLE = "Radiology-manual-annotations.xlsx"
REPORT = re.compile(r"P?\s*(\d+)\.docx", re.IGNORECASE)
COLUMNS = {
    "image": ("Image_name",),
    "patient": ("Patient_ID",),
    "side": ("Side",),
    "type": ("Type",),
    "density": ("Breast density (ACR)",),
    "birads": ("BIRADS",),
    "findings": ("Findings",),
    "view": ("View",),
    "pathology": ("Pathology Classification/ Follow up", "Pathology Classification/Follow up"),
}
PATHOLOGY = {"Normal": False, "Benign": False, "Malignant": True}
# Kinds by words in the free text of a finding.
KINDS = {
    "mass": "mass",
    "calcif": "calcification",
    "distortion": "distortion",
    "global asymmetr": "global_asymmetry",
    "focal asymmetr": "focal_asymmetry",
    "asymmetr": "asymmetry",
    "lymph": "lymph_node",
    "skin thick": "skin_thickening",
    "nipple retract": "nipple_retraction",
}


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the low-energy images, the table and the reports.

    Raises:
        DataError: the table is missing or has an unknown code. The message gives the line numbers.
    """
    table = Sheet(find_table(source, TABLE), COLUMNS, COLUMNS, sheet="all")
    files, remarks = Files(source, (".jpg", ".jpeg", ".png")), Remarks()
    drafts: dict[str, Draft] = {}
    for row in table:
        name = table.cell(row, "image")
        path = files.find(f"{name}.jpg") or files.find(f"{name}.png")
        patient = number(table.cell(row, "patient"))
        side = table.side(row)
        view = table.code(row, "view", codes.view)
        density = table.code(row, "density", codes.density)
        birads = table.code(row, "birads", worst)
        cancer = table.code(row, "pathology", pathology)
        if table.cell(row, "type").upper() != "DM":
            remarks.add("region-images", table.place(row))
            continue
        if path is None:
            remarks.add("row-without-image", table.place(row))
            continue
        draft = drafts.setdefault(patient, Draft(patient, patient))
        draft.label(side, density, birads, cancer)
        if side:
            draft.describe(side, findings(table.cell(row, "findings")))
        draft.images.append(RawImage(path, path.stem, side, view))
    table.problems.raise_all()
    files.unused(remarks)
    for patient, where, data in _reports(source, remarks):
        if patient not in drafts:
            remarks.add("report-without-study", where)
            continue
        try:
            drafts[patient].reports.append(read_document(data, Path(where)))
        except DataError:
            remarks.add("report-unreadable", where)
    return dataset(drafts.values(), config, remarks.notes())


def worst(text: str) -> str | None:
    """Return the most severe BI-RADS category of several, such as `3$2`."""
    found = [code for part in text.split("$") if (code := codes.birads(part))]
    return max(found, key=SEVERITY.index, default=None)


def pathology(text: str) -> bool | None:
    """Return whether one of several results, joined by `$`, is malignant."""
    found = [among(PATHOLOGY)(part) for part in text.split("$")]
    known = [cancer for cancer in found if cancer is not None]
    return any(known) if known else None


def findings(text: str) -> list[Finding]:
    """Return the kinds of findings that a free text joined by `$` names."""
    found = []
    for part in text.lower().split("$"):
        kind = next((kind for word, kind in KINDS.items() if word in part), None)
        if kind:
            found.append(Finding(kind))
    return found


def _reports(source: Path, remarks: Remarks) -> Iterator[tuple[str, str, bytes]]:
    """Yield patient, place and content of the reports, packed or not."""
    for path in paths_below(source):
        where = str(path.relative_to(source))
        if (match := REPORT.fullmatch(path.name)) and path.is_file():
            yield match[1], where, read_bytes(path)
        elif path.suffix.lower() == ".zip" and "report" in path.name.lower():
            try:
                with zipfile.ZipFile(path) as archive:
                    for name in sorted(archive.namelist()):
                        if match := REPORT.fullmatch(PurePosixPath(name).name):
                            yield match[1], f"{where}/{name}", read_member(archive, name)
            except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError):
                remarks.add("report-unreadable", where)
