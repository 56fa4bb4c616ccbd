"""One mammogram file as display values, and the few header fields that ingest needs.

Errors name the file and nothing from inside it: headers hold patient data, so neither pydicom's
warnings nor its exceptions nor its log are passed on.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from mama.data.bounds import MOST_PIXELS, frame_size, inflates_beyond
from mama.data.studies import Laterality
from mama.errors import DataError

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values

Reason = Literal[
    "unreadable",
    "no-identifiers",
    "not-a-mammogram",
    "for-processing",
    "multi-frame",
    "too-large",
    "colour",
    "pixel-type",
    "duplicate",
]

REASONS: dict[Reason, tuple[str, str]] = {
    "unreadable": (
        "the file is damaged or no image of a known format",
        "Export or copy it again",
    ),
    "no-identifiers": (
        "no StudyInstanceUID or SOPInstanceUID in the header",
        "Export it again from the archive",
    ),
    "not-a-mammogram": (
        "the object holds no mammogram (Modality is not MG, or it has no pixels)",
        "Leave it out of the folder",
    ),
    "for-processing": ("a raw detector image (FOR PROCESSING)", "Export FOR PRESENTATION images"),
    "too-large": ("more than 100 million pixels", "Export the image at its own size"),
    "multi-frame": ("several frames in one file", "Export two-dimensional images"),
    "colour": ("a colour image", "Export greyscale images"),
    "pixel-type": ("pixels are not integers of 8 to 16 bits", "Export integer pixels"),
    "duplicate": ("an image with the same SOPInstanceUID was read before", "Remove the copy"),
}

HEADER_FIELDS = [
    "PatientID",
    "StudyInstanceUID",
    "SOPInstanceUID",
    "AccessionNumber",
    "Modality",
    "PresentationIntentType",
    "ImageLaterality",
    "Laterality",
    "ViewPosition",
    "ViewCodeSequence",
    "Manufacturer",
    "Rows",
]

# SNOMED codes of DICOM context group 4014, old (SRT) and new (SCT) coding.
VIEW_CODES = {
    "R-10242": "CC",
    "399162004": "CC",
    "R-10226": "MLO",
    "399368009": "MLO",
    "R-10224": "ML",
    "399260004": "ML",
    "R-10228": "LM",
    "399352003": "LM",
}


class ImageError(DataError):
    """A file that cannot be used as a mammogram; `reason` is its code in `REASONS`."""

    def __init__(self, reason: Reason, path: Path):
        what, fix = REASONS[reason]
        super().__init__(what, where=path.name, fix=fix)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Header:
    """What ingest needs of a DICOM header; identifiers stay out of `repr`.

    `patient` is empty where the header has no PatientID.
    """

    patient: str = field(repr=False)
    study: str = field(repr=False)
    image: str = field(repr=False)
    accession: str | None = field(repr=False)
    laterality: Laterality | None
    view: str | None
    vendor: str | None


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's magic bytes."""
    with open(path, "rb") as handle:
        return _has_magic(handle)


def _has_magic(handle: BinaryIO) -> bool:
    return handle.read(132)[128:] == b"DICM"


def read_header(path: Path) -> Header:
    """Read the header of one DICOM mammogram, without its pixels.

    Raises:
        ImageError: damaged, without identifiers, or not a mammogram for presentation.
    """
    with _quiet(path), open(path, "rb") as handle:
        header = _open(handle, path, stop_before_pixels=True, specific_tags=HEADER_FIELDS)
        text = {name: str(header.get(name) or "").strip() for name in HEADER_FIELDS}
        view = text["ViewPosition"].upper() or _coded_view(header)
    if text["Modality"] not in ("MG", "") or not text["Rows"]:
        raise ImageError("not-a-mammogram", path)
    if text["PresentationIntentType"] == "FOR PROCESSING":
        raise ImageError("for-processing", path)
    if not (text["StudyInstanceUID"] and text["SOPInstanceUID"]):
        raise ImageError("no-identifiers", path)
    return Header(
        patient=text["PatientID"],
        study=text["StudyInstanceUID"],
        image=text["SOPInstanceUID"],
        accession=text["AccessionNumber"] or None,
        laterality=_laterality(text["ImageLaterality"] or text["Laterality"]),
        view=view or None,
        vendor=text["Manufacturer"] or None,
    )


def read_pixels(path: Path) -> np.ndarray:
    """Read one DICOM, PNG or PGM file as it is meant to be displayed.

    Returns:
        float32 (height, width) in [0, 1]; more X-ray absorption is brighter.

    Raises:
        ImageError: damaged, several frames, colour, or an unsupported pixel type.
    """
    with _quiet(path), open(path, "rb") as handle:
        read = _read_dicom if _has_magic(handle) else _read_picture
        handle.seek(0)
        return read(handle, path)


def _open(handle: BinaryIO, path: Path, **how: Any) -> pydicom.FileDataset:
    if inflates_beyond(handle):
        raise ImageError("too-large", path)
    handle.seek(0)
    return pydicom.dcmread(handle, **how)


def _read_dicom(handle: BinaryIO, path: Path) -> np.ndarray:
    dataset = _open(handle, path)
    if int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) > MOST_PIXELS:
        raise ImageError("too-large", path)
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError("multi-frame", path)
    if dataset.SamplesPerPixel != 1 or not dataset.PhotometricInterpretation.startswith("MONO"):
        raise ImageError("colour", path)
    if "PixelData" not in dataset or dataset.BitsAllocated not in (8, 16):
        raise ImageError("pixel-type", path)
    if frame_size(dataset) not in (None, (dataset.Rows, dataset.Columns)):
        raise ImageError("unreadable", path)
    stored = pixel_array(dataset)
    if stored.ndim != 2:  # more pixels than the one frame of the header has
        raise ImageError("unreadable", path)
    return _display(stored, dataset)


def _display(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Modality LUT, VOI LUT or window, then the sense of MONOCHROME1 (DICOM PS3.4 N.2).

    All are functions of the stored value, so they are applied to the table of values that occur
    instead of to every pixel. Padding is neither scaled nor inverted: it is background.
    """
    lowest = int(stored.min())
    index = stored.astype(np.int32) - lowest
    occurs = np.bincount(index.ravel()) > 0
    values = np.arange(lowest, lowest + len(occurs), dtype=np.int32)
    padding = _padding(values, dataset)
    table = apply_voi_lut(apply_modality_lut(values, dataset), dataset).astype(np.float32)
    shown = table[occurs & ~padding]
    low, high = (shown.min(), shown.max()) if len(shown) else (0, 0)
    table = np.clip((table - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 1 - table
    table[padding] = 0
    return table[index]


def _padding(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """bool, true for values that mark no part of the picture (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(values.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((value, limit if isinstance(limit, int) else value))
    return (values >= first) & (values <= last)


def _read_picture(handle: BinaryIO, path: Path) -> np.ndarray:
    with Image.open(handle) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise ImageError("multi-frame", path)
        if picture.width * picture.height > MOST_PIXELS:
            raise ImageError("too-large", path)
        if picture.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
            raise ImageError("colour", path)
        scale = {"L": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}.get(picture.mode)
        if scale is None:
            raise ImageError("pixel-type", path)
        return np.asarray(picture, np.float32) / scale


def _laterality(text: str) -> Laterality | None:
    side = text.upper()
    return side if side in ("L", "R") else None  # type: ignore[return-value]


def _coded_view(header: pydicom.Dataset) -> str:
    sequence: Any = header.get("ViewCodeSequence") or []
    return VIEW_CODES.get(str(sequence[0].get("CodeValue", "")), "") if len(sequence) else ""


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Turn whatever a decoder says about a damaged file into one `ImageError`.

    pydicom and the codecs raise almost any exception on bad input, and their messages and warnings
    quote header values: both are dropped.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ImageError, MemoryError):
            raise
        except Exception:
            raise ImageError("unreadable", path) from None
