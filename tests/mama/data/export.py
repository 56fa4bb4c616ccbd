"""A hospital's export with all that an archive holds beside mammograms; images are tiny.

Of each study: four FFDM for presentation, their raw images, tomosynthesis, synthetic images, and
reports, key notes and presentation states. Dose pages have the patient's name burned in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tests.mama.data.conftest import breast, write_mammogram

STORAGE = "1.2.840.10008.5.1.4.1.1"
VENDORS = (("HOLOGIC, Inc.", 0.07), ("GE MEDICAL SYSTEMS", 0.1), ("SIEMENS", 0.085))
OTHERS = ("88.33", "88.50", "88.59", "11.1")  # SR, mammography CAD SR, key note, presentation state
ROOT = "1.2.826.0.1.3680043.9"
REPORT = (
    "EXAM: Bilateral screening mammogram. {identifiers} FINDINGS: The breasts are {density}. "
    "There is a {size} mm mass in the left breast. The right breast is normal. "
    "IMPRESSION: BI-RADS 4 left. BI-RADS 1 right."
)
DENSITIES = ("almost entirely fatty", "heterogeneously dense", "extremely dense")


@dataclass(frozen=True)
class Person:
    """One patient's identifiers."""

    name: str
    number: str
    born: str
    accession: str
    study: str
    folder: str
    identifiers: str = ""


def person(number: int) -> Person:
    """A patient of whom nothing is planted."""
    return Person(
        name=f"Family{number}^Given",
        number=f"{70_000 + 37 * number}",
        born=f"{1940 + number % 40}0417",
        accession=f"A{5_000 + number}",
        study=f"{ROOT}.{number + 1}",
        folder=f"STU{number:05d}",
    )


def write_export(source: Path, people: list[Person], dose_pages: int = 0) -> Path:
    """Write the export of one study a person; the first persons have a dose page too."""
    rows = ["study,report"]
    for number, one in enumerate(people):
        files = list(_study(one, number))
        if number < dose_pages:
            files.append(_dose_page(one))
        for serial, (pixels, fields) in enumerate(files):
            write_mammogram(
                source / "dicom" / one.folder / f"IM{serial:04d}",
                pixels,
                PatientName=one.name,
                PatientID=one.number,
                PatientBirthDate=one.born,
                AccessionNumber=one.accession,
                StudyInstanceUID=one.study,
                SOPInstanceUID=f"{one.study}.{serial + 1}",
                StudyDate="20240311",
                **fields,
            )
        text = REPORT.format(
            identifiers=one.identifiers, density=DENSITIES[number % 3], size=5 + number
        )
        rows.append(f'{one.accession},"{text}"')
    (source / "reports.csv").write_text("\n".join(rows) + "\n")
    return source


def page(*lines: str) -> np.ndarray:
    """uint16 (height, width): white text on black, as a dose page."""
    picture = Image.new("L", (160, 96))
    ImageDraw.Draw(picture).multiline_text((4, 4), "\n".join(lines), fill=255)
    return np.asarray(picture).astype(np.uint16) << 4


def _study(one: Person, number: int) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    vendor, spacing = VENDORS[number % 3]
    for view in range(4):
        side, position = "LR"[view % 2], ("CC", "MLO")[view // 2]
        pixels = breast(seed=4 * number + view)
        pixels = pixels if side == "L" else pixels[:, ::-1]
        common = {
            "ImageLaterality": side,
            "ViewPosition": position,
            "Manufacturer": vendor,
            "ImagerPixelSpacing": [spacing, spacing],
        }
        yield pixels, common | {"PresentationIntentType": "FOR PRESENTATION"}
        raw = {"PresentationIntentType": "FOR PROCESSING", "SOPClassUID": f"{STORAGE}.1.2.1"}
        yield pixels, common | raw
        volume = {
            "SOPClassUID": f"{STORAGE}.13.1.3",
            "NumberOfFrames": 2,
            "ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"],
        }
        yield (
            np.stack([pixels, pixels]).reshape(-1, pixels.shape[1]),
            common | volume | {"Rows": pixels.shape[0]},
        )
        view_2d = {
            "ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"],
            "SeriesDescription": f"{side} {position} C-View",
        }
        yield pixels, common | view_2d
        kind = {
            "SOPClassUID": f"{STORAGE}.{OTHERS[view]}",
            "Modality": ("SR", "SR", "KO", "PR")[view],
        }
        nothing = dict.fromkeys(("Rows", "Columns", "PixelData", "ImageLaterality", "ViewPosition"))
        yield pixels, kind | nothing


def _dose_page(one: Person) -> tuple[np.ndarray, dict[str, Any]]:
    fields = {
        "SOPClassUID": f"{STORAGE}.7",
        "ConversionType": "WSD",
        "SeriesDescription": "Dose Report",
        "ImageLaterality": None,
        "ViewPosition": None,
    }
    return page("DOSE REPORT", one.name, one.number, one.born, "AGD 1.4 mGy"), fields
