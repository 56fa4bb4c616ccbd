"""Adapter for INbreast (Moreira et al. 2012).

    AllDICOMs/FILE_PATIENT_MG_SIDE_VIEW_ANON.dcm
    INbreast.csv (or .xlsx)     a row a film; BI-RADS is of the breast
    AllXML/FILE.xml             outlines of findings; may be absent
    MedicalReports/*.txt        in Portuguese, named by film or patient; may be absent

The table's patients read "removed": the patient is the code in the file name, and an exam is a
patient's month of acquisition. File names write ML where the table says MLO.
"""

import plistlib
import re
from pathlib import Path
from typing import Any

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.captions import Finding
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Files, Remarks, Sheet, find_table, number, paths_below
from mama.data.adapters.raw import RawBox, RawDataset, RawImage
from mama.data.tables import codes
from mama.data.tables.documents import read_document
from mama.data.tables.text import read_bytes
from mama.errors import DataError

NAME = re.compile(r"(\d+)_([0-9a-z]+)_MG_([LR])_(CC|MLO|ML)_ANON\.dcm", re.IGNORECASE)
COLUMNS = {
    "side": ("Laterality",),
    "view": ("View",),
    "date": ("Acquisition date",),
    "file": ("File Name",),
    "density": ("ACR",),
    "birads": ("Bi-Rads", "BI-RADS"),
}
# Outlines by the first letters of their names; others, such as the pectoral muscle, are none.
OUTLINES = {
    "mass": Finding("mass"),
    "calc": Finding("calcification"),
    "cluster": Finding("calcification", ("clustered",)),
    "spiculated": Finding("mass", ("spiculated",)),
    "asymmetry": Finding("asymmetry"),
    "assymetry": Finding("asymmetry"),  # as the set writes it
    "distortion": Finding("distortion"),
}
POINT = re.compile(r"\(\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\)")


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the table and the films; rows and films without a partner are counted.

    Raises:
        DataError: the table is missing or has an unknown code. The message gives the line numbers.
    """
    table = Sheet(
        find_table(source, "INbreast.csv", "INbreast.xlsx", "INbreast.xls"), COLUMNS, COLUMNS
    )
    files, outlines, remarks = Files(source, (".dcm",)), Files(source, (".xml",)), Remarks()
    named = {match[1]: path for path in files.paths if (match := NAME.fullmatch(path.name))}
    drafts: dict[str, Draft] = {}
    exams: dict[str, set[str]] = {}  # by film and by patient
    for row in table:
        film = number(table.cell(row, "file"))
        if not film.isdigit():  # the last lines of the sheet are remarks
            continue
        side = table.side(row)
        view = table.code(row, "view", codes.view)
        density = table.code(row, "density", codes.density)
        birads = table.code(row, "birads", codes.birads)
        path = named.get(film)
        match = NAME.fullmatch(path.name) if path else None
        if path is None or match is None:
            remarks.add("row-without-image", table.place(row))
            continue
        files.used.add(path)
        patient = match[2].lower()
        exam = f"{patient}_{number(table.cell(row, 'date'))}"
        for key in (film, patient):
            exams.setdefault(key, set()).add(exam)
        draft = drafts.setdefault(exam, Draft(patient, exam))
        draft.label(side, density, birads)
        boxes: list[RawBox] = []
        outline = outlines.find(f"{film}.xml")
        findings = _outlines(outline, boxes, outlines, remarks) if outline else []
        if side and (outline or birads == "1"):
            draft.describe(side, findings)
        draft.images.append(RawImage(path, film, side, view, boxes=tuple(boxes)))
    table.problems.raise_all()
    files.unused(remarks)
    _reports(source, drafts, exams, remarks)
    return dataset(drafts.values(), config, remarks.notes())


def _outlines(path: Path, boxes: list[RawBox], files: Files, remarks: Remarks) -> list[Finding]:
    """Return the findings of a film; add the boxes around their outlines."""
    try:
        content: Any = plistlib.loads(path.read_bytes())
        regions = [region for image in content["Images"] for region in image["ROIs"]]
        outlines = [(str(r["Name"]), [str(point) for point in r["Point_px"]]) for r in regions]
    except Exception:  # plistlib raises whatever the XML parser does
        remarks.add("box-invalid", files.relative(path))
        return []
    findings = []
    for name, texts in outlines:
        kind = next((f for start, f in OUTLINES.items() if name.lower().startswith(start)), None)
        if kind is None:
            continue
        findings.append(kind)
        points = [(float(m[1]), float(m[2])) for text in texts if (m := POINT.search(text))]
        if len(points) > 1:  # a single calcification is a point without area
            xs, ys = zip(*points, strict=True)
            boxes.append(RawBox(min(xs), min(ys), max(xs), max(ys), kind.kind))
    return findings


def _reports(
    source: Path, drafts: dict[str, Draft], exams: dict[str, set[str]], remarks: Remarks
) -> None:
    """Give each report to the exam of its film or patient; one of several exams to none."""
    for path in paths_below(source):
        if path.suffix.lower() != ".txt" or "report" not in path.parent.name.lower():
            continue
        keys = re.split(r"[^0-9a-z]+", path.stem.lower())
        found = next((exams[key] for key in keys if key in exams), set())
        where = str(path.relative_to(source))
        if len(found) != 1:
            remarks.add("report-unreadable" if found else "report-without-study", where)
            continue
        try:
            drafts[next(iter(found))].reports.append(read_document(read_bytes(path), path))
        except DataError:
            remarks.add("report-unreadable", where)
