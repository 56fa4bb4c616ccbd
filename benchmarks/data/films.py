"""Drawn mammograms of a detector's size as DICOM files, in the transfer syntaxes of archives."""

from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid
from scipy.ndimage import zoom

SIZE = (4096, 3072)  # 12.6 million pixels


def draw(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return uint16 (height, width) of 12 bits: a noisy half ellipse on the left, 0 around it."""
    random = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.ogrid[-1 : 1 : height * 1j, 0 : 1 : width * 1j]
    inside = np.clip(1 - (rows / 0.9) ** 2 - (columns / 0.75) ** 2, 0, None)
    clouds = zoom(random.normal(size=(33, 25)), (height / 33, width / 25), order=1)
    noise = random.standard_normal(size, np.float32)
    levels = 600 + 2400 * np.sqrt(inside) + 250 * clouds[:height, :width] + 12 * noise
    return np.where(inside > 0, levels.clip(1, 4095), 0).astype(np.uint16)


def write(path: Path, pixels: np.ndarray, patient: str) -> None:
    """Write pixels of 12 bits as an uncompressed left CC mammogram of a study of its own."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    fields = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2",
        "SOPInstanceUID": generate_uid(entropy_srcs=[patient, path.name]),
        "StudyInstanceUID": generate_uid(entropy_srcs=[patient]),
        "PatientID": patient,
        "Modality": "MG",
        "ImageLaterality": "L",
        "ViewPosition": "CC",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "WindowCenter": "2048",
        "WindowWidth": "4096",
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in fields.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def _rle(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)


def _by_gdcm(syntax: int) -> Callable[[Path], None]:
    def compress(path: Path) -> None:
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        if not reader.Read():
            raise OSError(f"{path}: not read")
        change.SetInput(reader.GetImage())
        writer = gdcm.ImageWriter()
        if not change.Change():
            raise OSError(f"{path}: not compressed")
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()

    return compress


COMPRESS: dict[str, Callable[[Path], None]] = {
    "rle": _rle,
    "jpeg_lossless": _by_gdcm(gdcm.TransferSyntax.JPEGLosslessProcess14_1),
    "jpeg_ls": _by_gdcm(gdcm.TransferSyntax.JPEGLSLossless),
    "jpeg_2000": _by_gdcm(gdcm.TransferSyntax.JPEG2000Lossless),
}
