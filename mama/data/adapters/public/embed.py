"""Adapter for the EMory BrEast imaging Dataset (Jeong et al. 2023), its open part.

    **/cohort_N/PATIENT/STUDY/SOP.dcm       the folders that were downloaded
    **/EMBED_OpenData_metadata.csv          a row a file      (or .._reduced.csv)
    **/EMBED_OpenData_clinical.csv          a row a finding   (or .._reduced.csv)

Findings join to images by exam and breast; a finding without a side is of both. MagView writes no
row for the other, negative breast of a bilateral exam, which is added. The licence (section 5) lets
no weights leave the site without Emory's word, so the set is marked so.
"""

import re
from dataclasses import replace
from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public import embed_codes as magview
from mama.data.adapters.public.captions import Finding
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Files, Remarks, Sheet, find_table, number
from mama.data.adapters.raw import RawBox, RawDataset, RawImage
from mama.data.studies import Laterality
from mama.data.tables import Row, codes

METADATA = ("EMBED_OpenData_metadata.csv", "EMBED_OpenData_metadata_reduced.csv")
CLINICAL = ("EMBED_OpenData_clinical.csv", "EMBED_OpenData_clinical_reduced.csv")
FILE_COLUMNS = {
    "patient": ("empi_anon",),
    "exam": ("acc_anon",),
    "path": ("anon_dicom_path",),
    "kind": ("FinalImageType",),
    "side": ("ImageLateralityFinal",),
    "view": ("ViewPosition",),
    "spot": ("spot_mag",),
    "boxes": ("ROI_coords",),
}
FINDING_COLUMNS = {
    "exam": ("acc_anon",),
    "name": ("desc",),
    "density": ("tissueden",),
    "birads": ("asses",),
    "side": ("side",),
    "shape": ("massshape",),
    "margin": ("massmargin",),
    "massdens": ("massdens",),
    "calcification": ("calcfind",),
    "distribution": ("calcdistri",),
    "biopsied": ("bside",),
    "severity": ("path_severity",),
}
BOX = re.compile(r"\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*\)")
KINDS: dict[str, tuple[str, ...]] = {"2d": (), "cview": ("synthetic",)}
BOTH: tuple[Laterality, ...] = ("L", "R")


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read both tables and the files that were downloaded; others are counted.

    Raises:
        DataError: a table is missing or has an unknown code. The message gives the line numbers.
    """
    remarks = Remarks()
    drafts = _images(source, remarks)
    table = Sheet(find_table(source, *CLINICAL), FINDING_COLUMNS, ("exam", "birads", "side"))
    bilateral: set[str] = set()
    male: set[str] = set()
    for row in table:
        exam = number(table.cell(row, "exam"))
        density = table.code(row, "density", magview.density)
        if exam in drafts:
            if "bilat" in table.cell(row, "name").lower():
                bilateral.add(exam)
            if density == "male":
                male.add(exam)
            else:
                drafts[exam].dense(density)
            _finding(table, row, drafts[exam], remarks)
        else:
            table.code(row, "birads", magview.assessment)
            table.code(row, "side", codes.sides)
    table.problems.raise_all()
    for exam, draft in drafts.items():
        _complete(draft, exam in bilateral)
        if exam in male:
            draft.images = [_flagged(image, "male") for image in draft.images]
    return dataset(drafts.values(), config, remarks.notes(), share_weights=False)


def _images(source: Path, remarks: Remarks) -> dict[str, Draft]:
    table = Sheet(find_table(source, *METADATA), FILE_COLUMNS, FILE_COLUMNS)
    files = Files(source, (".dcm",))
    drafts: dict[str, Draft] = {}
    for row in table:
        flags = KINDS.get(re.sub(r"[^a-z0-9]", "", table.cell(row, "kind").lower()))
        # The paths start where the authors' disk was mounted.
        path = files.find(table.cell(row, "path"))
        if path is None:
            remarks.add("row-without-image", table.place(row))
            continue
        if flags is None:
            remarks.add("region-images", table.place(row))
            continue
        if table.soft(row, "spot", codes.flag, remarks):
            flags = (*flags, "spot", "magnification")
        exam = number(table.cell(row, "exam"))
        draft = drafts.setdefault(exam, Draft(number(table.cell(row, "patient")), exam))
        draft.images.append(
            RawImage(
                path,
                path.stem,
                table.soft(row, "side", codes.laterality, remarks),
                table.soft(row, "view", codes.view, remarks),
                boxes=boxes(table.cell(row, "boxes")),
                flags=flags,
            )
        )
    table.problems.raise_all()
    files.unused(remarks)
    return drafts


def boxes(text: str) -> tuple[RawBox, ...]:
    """Read ROI_coords, such as `((y1, x1, y2, x2), …)`, whose order is y before x."""
    found = [tuple(map(float, match.groups())) for match in BOX.finditer(text)]
    return tuple(
        RawBox(x0, y0, x1, y1, "finding") for y0, x0, y1, x1 in found if y0 < y1 and x0 < x1
    )


def _finding(table: Sheet, row: Row, draft: Draft, remarks: Remarks) -> None:
    """Give one finding to its breast, or to both where it has no side."""
    birads = table.code(row, "birads", magview.assessment)
    named = table.code(row, "side", codes.sides) or ()
    findings = _described(table, row, remarks)
    if not findings and birads in ("0", "3", "4", "5", "6"):
        findings = [Finding("other")]
    for side in named or BOTH:
        draft.rate(side, birads)
        draft.describe(side, findings)
    cancer = table.code(row, "severity", magview.severity)
    biopsied = table.soft(row, "biopsied", codes.sides, remarks) or named
    if cancer is not None:
        if not biopsied:
            remarks.add("finding-without-side", table.place(row))
        for side in biopsied:
            draft.diagnose(side, cancer)


def _described(table: Sheet, row: Row, remarks: Remarks) -> list[Finding]:
    shape = table.soft(row, "shape", magview.shape, remarks)
    margin = table.soft(row, "margin", magview.margin, remarks)
    density = table.soft(row, "massdens", magview.mass_density, remarks)
    words = tuple(word for word in (margin, density) if word)
    findings = []
    if shape or words:
        base = shape or Finding("mass")
        findings.append(Finding(base.kind, (*base.words, *words)))
    kinds = table.soft(row, "calcification", magview.calcification, remarks)
    spread = table.soft(row, "distribution", magview.distribution, remarks)
    if kinds is not None or spread is not None:
        findings.append(Finding("calcification", (*(spread or ()), *(kinds or ()))))
    return findings


def _complete(draft: Draft, bilateral: bool) -> None:
    """Add the negative breast of a bilateral exam, which has no row."""
    if bilateral and len(draft.breasts) == 1:
        other: Laterality = "R" if "L" in draft.breasts else "L"
        draft.rate(other, "1")
        draft.describe(other, ())


def _flagged(image: RawImage, flag: str) -> RawImage:
    return replace(image, flags=(*image.flags, flag))
