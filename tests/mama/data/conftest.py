"""Tiny mammograms and folders for the tests of ingest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PATIENT = "Doe^Jane"


def breast(height: int = 96, width: int = 64, seed: int = 0) -> np.ndarray:
    """uint16 (height, width), 12 bits: half an ellipse on the left, background 0."""
    rows, columns = np.mgrid[:height, :width]
    distance = ((rows - height / 2) / (height * 0.45)) ** 2 + (columns / (width * 0.8)) ** 2
    texture = 1 + 0.1 * np.sin(rows / 3 + seed) * np.cos(columns / 4 + 0.7 * seed)
    if seed:  # so that two seeds are no copies of each other to the audit
        texture += 0.1 * np.sin(columns / (2 + seed % 7) + seed) * np.cos(rows / (2 + seed % 5))
    return (3500 * np.sqrt(np.clip(1 - distance, 0, None)) * texture).astype(np.uint16)


@pytest.fixture
def picture() -> np.ndarray:
    return breast()


def write_mammogram(path: Path, pixels: np.ndarray | None = None, **fields: Any) -> Path:
    """Write a 12-bit mammogram; keywords become header fields, None removes one."""
    pixels = breast() if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    defaults = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2",
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "PatientName": PATIENT,
        "PatientID": "hospital-number-1",
        "Modality": "MG",
        "ImageLaterality": "L",
        "ViewPosition": "CC",
        "Manufacturer": "Maker",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": min(12, 8 * pixels.itemsize),
        "HighBit": min(12, 8 * pixels.itemsize) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": np.ascontiguousarray(pixels).tobytes(),
    }
    for keyword, value in (defaults | fields).items():
        if value is not None:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def write_dicom() -> Callable[..., Path]:
    """`write_mammogram`, for tests of other folders."""
    return write_mammogram


@pytest.fixture
def hospital(tmp_path: Path, write_dicom: Callable[..., Path]) -> Path:
    """Four patients, one study each, two breasts a study, and a report for each."""
    source = tmp_path / "hospital"
    rows = ["study,report,density,suspicious_left,suspicious_right,split"]
    for number in range(4):
        for side in "LR":
            picture = breast(seed=2 * number + (side == "R"))
            write_dicom(
                source / "dicom" / f"{number}{side}.dcm",
                picture if side == "L" else picture[:, ::-1],
                PatientID=f"patient-{number}",
                StudyInstanceUID=f"1.2.{number + 1}",
                SOPInstanceUID=f"1.2.{number + 1}.{ord(side)}",
                AccessionNumber=f"acc{number}",
                ImageLaterality=side,
            )
        rows.append(f'1.2.{number + 1},"Dense, both sides. No mass.",C,0,1,')
    (source / "reports.csv").write_text("\n".join(rows) + "\n")
    return source


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A miniature of mini-MIAS: films 1, 2, 3, 4 and 7."""
    source = tmp_path / "films"
    (source / "png").mkdir(parents=True)
    for number in (1, 2, 3, 4, 7):
        pixels = (breast() >> 4).astype(np.uint8)
        pixels = pixels[:, ::-1] if number % 2 else pixels
        Image.fromarray(pixels).save(source / "png" / f"mdb{number:03d}.png")
    (source / "labels").write_text(
        "mdb001 G CIRC B 535 425 197\n"
        "mdb001 G SPIC M 100 100 20 \n"
        "mdb002 G NORM \n"
        "\n"
        "mdb003 D NORM\n"
        "mdb004 D CALC B\n"
        "mdb009 F NORM\n"
    )
    return source
