"""Pixels of a DICOM mammogram, or of a PNG or PGM picture, as display values."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import JPEGExtended12Bit

from mama.data.dicom.bounds import MOST_PIXELS, frame_size
from mama.data.dicom.display import display
from mama.data.dicom.file import open_dataset, quiet
from mama.data.dicom.reasons import ImageError


class Pixels(NamedTuple):
    """Levels of an image and how they are shown; brighter is more X-ray absorption.

    Attributes:
        levels: uint8 or uint16 (height, width).
        table: float32, 256 or 65536 display values in [0, 1], one of each level.
        remarks: codes of `mama.data.adapters.notes`, such as a window that was passed over.
    """

    levels: np.ndarray
    table: np.ndarray
    remarks: tuple[str, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """Display values, float32 (height, width) in [0, 1]."""
        return self.table[self.levels]


def read_image(path: Path) -> Pixels:
    """Read one DICOM, PNG, JPEG or PGM file as levels and their display values.

    Raises:
        ImageError: the file is damaged or has several frames, colour or an unsupported pixel type,
            or its decoder is missing.
    """
    with quiet(path), open(path, "rb") as handle:
        start = handle.read(132)
        pictures = (b"\x89PNG", b"\xff\xd8\xff", b"P5", b"II*", b"MM")
        dicom = start[128:] == b"DICM" or not start.startswith(pictures)
        if dicom:
            return _read_dicom(handle, path)
        handle.seek(0)
        return _read_picture(handle, path)


def read_pixels(path: Path) -> np.ndarray:
    """Return the display values of a file, float32 (height, width) in [0, 1].

    Raises:
        ImageError: as `read_image`.
    """
    return read_image(path).values


def _read_dicom(handle: BinaryIO, path: Path) -> Pixels:
    header = open_dataset(handle, path, stop_before_pixels=True)
    if int(header.get("Rows") or 0) * int(header.get("Columns") or 0) > MOST_PIXELS:
        raise ImageError("too-large", path)
    if int(header.get("NumberOfFrames") or 1) > 1:  # gigabytes that are never read
        raise ImageError("multi-frame", path)
    dataset = open_dataset(handle, path)
    if dataset.SamplesPerPixel != 1 or not dataset.PhotometricInterpretation.startswith("MONO"):
        raise ImageError("colour", path)
    if "PixelData" not in dataset or dataset.BitsAllocated not in (8, 16):
        raise ImageError("pixel-type", path)
    if frame_size(dataset) not in (None, (dataset.Rows, dataset.Columns)):
        raise ImageError("unreadable", path)
    stored = _decoded(dataset, path)
    if stored.ndim != 2:  # the data hold more pixels than the one frame of the header
        raise ImageError("unreadable", path)
    return Pixels(*display(stored, dataset))


def _decoded(dataset: pydicom.FileDataset, path: Path) -> np.ndarray:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        try:
            available = get_decoder(syntax).is_available
        except NotImplementedError:
            available = False
        if not available:
            raise ImageError("missing-decoder", path)
    try:
        return pixel_array(dataset)
    except Exception:
        # The installed decoders read 8 of the 12 bits that this syntax may have.
        if syntax == JPEGExtended12Bit and dataset.BitsStored > 8:
            raise ImageError("missing-decoder", path) from None
        raise


def _read_picture(handle: BinaryIO, path: Path) -> Pixels:
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
        levels = np.asarray(picture).clip(0, scale)
        table = np.arange(scale + 1, dtype=np.float32) / scale
        return Pixels(levels.astype(np.uint8 if scale == 255 else np.uint16, copy=False), table)
