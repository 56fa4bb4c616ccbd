"""Adapter for VinDr-Mammo (Nguyen et al. 2023).

    images/STUDY/IMAGE.dicom
    breast-level_annotations.csv    a row an image; BI-RADS and density are of the breast
    finding_annotations.csv         a row a finding, with its box; may be absent

The set has no patients: each study counts as one. Reports are rendered from the tables.
"""

import ast
from collections.abc import Mapping
from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.captions import Finding
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Files, Remarks, Sheet, find_table, find_tables
from mama.data.adapters.raw import RawBox, RawDataset, RawImage
from mama.data.studies import Laterality, Split
from mama.data.tables import Row, codes
from mama.data.tables.codes import CodeError

BREASTS = "breast-level_annotations.csv"
FINDINGS = "finding_annotations.csv"
KINDS: dict[str, Finding | None] = {
    "No Finding": None,
    "Mass": Finding("mass"),
    "Suspicious Calcification": Finding("calcification", ("suspicious",)),
    "Asymmetry": Finding("asymmetry"),
    "Focal Asymmetry": Finding("focal_asymmetry"),
    "Global Asymmetry": Finding("global_asymmetry"),
    "Architectural Distortion": Finding("distortion"),
    "Skin Thickening": Finding("skin_thickening"),
    "Skin Retraction": Finding("skin_retraction"),
    "Nipple Retraction": Finding("nipple_retraction"),
    "Suspicious Lymph Node": Finding("suspicious_lymph_node"),
}
COLUMNS = {
    "study": ("study_id",),
    "image": ("image_id",),
    "side": ("laterality",),
    "view": ("view_position",),
    "birads": ("breast_birads",),
    "density": ("breast_density",),
    "split": ("split",),
}
FINDING_COLUMNS = {
    "study": ("study_id",),
    "image": ("image_id",),
    "side": ("laterality",),
    "kinds": ("finding_categories",),
    **{name: (name,) for name in ("xmin", "ymin", "xmax", "ymax")},
}


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the set as PhysioNet publishes it; images that were not downloaded are counted.

    Raises:
        DataError: a table is missing or has an unknown code. The message gives the line numbers.
    """
    table = Sheet(find_table(source, BREASTS), COLUMNS, COLUMNS)
    files, remarks = Files(source, (".dicom", ".dcm")), Remarks()
    drafts: dict[str, Draft] = {}
    boxes, described = _findings(source, remarks)
    for row in table:
        study, image = table.cell(row, "study"), table.cell(row, "image")
        side = table.side(row)
        view = table.code(row, "view", codes.view)
        birads = table.code(row, "birads", codes.birads)
        density = table.code(row, "density", codes.density)
        split: Split | None = table.code(row, "split", codes.split)
        path = files.find(f"{study}/{image}.dicom") or files.find(f"{study}/{image}.dcm")
        if path is None:
            remarks.add("row-without-image", table.place(row))
            continue
        draft = drafts.setdefault(study, Draft(study, study, split))
        draft.label(side, density, birads)
        draft.images.append(RawImage(path, image, side, view, boxes=tuple(boxes.get(image, ()))))
    table.problems.raise_all()
    for (study, breast), found in described.items():
        if study in drafts:
            drafts[study].describe(breast, found)
    files.unused(remarks)
    return dataset(drafts.values(), config, remarks.notes())


def _findings(
    source: Path, remarks: Remarks
) -> tuple[Mapping[str, list[RawBox]], Mapping[tuple[str, Laterality], list[Finding]]]:
    """Return boxes by image and findings by study and breast."""
    boxes: dict[str, list[RawBox]] = {}
    described: dict[tuple[str, Laterality], list[Finding]] = {}
    for path in find_tables(source, FINDINGS)[:1]:
        table = Sheet(path, FINDING_COLUMNS, FINDING_COLUMNS)
        for row in table:
            found = [kind for kind in table.code(row, "kinds", categories) or () if kind]
            if side := table.side(row):
                described.setdefault((table.cell(row, "study"), side), []).extend(found)
            if found:
                box = _box(table, row, "+".join(kind.kind for kind in found))
                if box is None:
                    remarks.add("box-invalid", table.place(row))
                else:
                    boxes.setdefault(table.cell(row, "image"), []).append(box)
        table.problems.raise_all()
    return boxes, described


def categories(text: str) -> list[Finding | None]:
    """Read a cell that holds a Python list of categories.

    Raises:
        CodeError: it is no list of known categories.
    """
    try:
        names = ast.literal_eval(text)
        return [KINDS[name] for name in names]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise CodeError(", ".join(KINDS)) from None


def _box(table: Sheet, row: Row, label: str) -> RawBox | None:
    try:
        x0, y0, x1, y1 = (float(table.cell(row, n)) for n in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return None
    return RawBox(x0, y0, x1, y1, label) if x0 < x1 and y0 < y1 else None
