"""Adapter for the RSNA Screening Mammography Breast Cancer Detection challenge.

    train_images/PATIENT/IMAGE.dcm
    train.csv       a row an image; cancer is of the breast, implant of the patient or the image

Each patient has one exam. Reports are rendered from density and BI-RADS, which one of the two sites
has. The challenge's test images have no labels and are not read.
"""

from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.draft import Draft, dataset
from mama.data.adapters.public.files import Files, Remarks, Sheet, find_table, number
from mama.data.adapters.raw import RawDataset, RawImage
from mama.data.tables import codes

NEEDED = ("patient", "image", "side", "view", "cancer")
COLUMNS = {
    "patient": ("patient_id",),
    "image": ("image_id",),
    "side": ("laterality",),
    "view": ("view",),
    "cancer": ("cancer",),
    "birads": ("BIRADS",),
    "density": ("density",),
    "implant": ("implant",),
}


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the training set as Kaggle publishes it; images that are not there are counted.

    Raises:
        DataError: train.csv is missing or has an unknown code. The message gives the line numbers.
    """
    table = Sheet(find_table(source, "train.csv"), COLUMNS, NEEDED)
    folder = source / "train_images"
    files, remarks = Files(folder if folder.is_dir() else source, (".dcm", ".png")), Remarks()
    drafts: dict[str, Draft] = {}
    for row in table:
        patient, image = (number(table.cell(row, name)) for name in ("patient", "image"))
        side = table.side(row)
        view = table.code(row, "view", codes.view)
        cancer = table.code(row, "cancer", codes.flag)
        birads = table.code(row, "birads", codes.birads)
        density = table.code(row, "density", codes.density)
        implant = table.code(row, "implant", codes.flag)
        # Conversions to PNG are often named PATIENT_IMAGE.png in one folder.
        names = (f"{patient}/{image}.dcm", f"{patient}/{image}.png", f"{patient}_{image}.png")
        path = next(filter(None, map(files.find, names)), None)
        if path is None:
            remarks.add("row-without-image", table.place(row))
            continue
        draft = drafts.setdefault(patient, Draft(patient, patient))
        draft.label(side, density, birads, cancer)
        flags = ("implant",) if implant else ()
        draft.images.append(RawImage(path, image, side, view, flags=flags))
    table.problems.raise_all()
    files.unused(remarks)
    return dataset(drafts.values(), config, remarks.notes())
