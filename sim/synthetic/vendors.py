"""Three vendors of mammography units, which render a phantom to DICOM in different ways."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from sim.synthetic.phantom import Mammogram

# Width and height of a pixel in mm: 384 rows span a breast of about 23 cm.
PIXEL_MM = 0.6


@dataclass(frozen=True)
class Vendor:
    """Rendering of a breast by a mammography unit.

    Brightness b of the phantom becomes b ** gamma * gain + offset, plus noise, as a share of the
    stored range of `bits` bits. `slope` and `intercept` are the modality rescale; `windowed` units
    provide a window around the values of tissue. `monochrome1` units store inverted brightness,
    `compressed` ones use RLE.
    """

    manufacturer: str
    bits: int
    gain: float
    offset: float
    gamma: float
    noise: float
    slope: float = 1.0
    intercept: float = 0.0
    windowed: bool = False
    monochrome1: bool = False
    compressed: bool = False


VENDORS = {
    "lumen": Vendor("Lumen Imaging", 12, 0.90, 0.02, 1.0, 0.006, windowed=True),
    "orbis": Vendor("Orbis Medical", 14, 0.95, 0.00, 1.25, 0.010, monochrome1=True),
    "vanta": Vendor(
        "Vanta Systems", 12, 0.80, 0.05, 0.8, 0.008, slope=2.0, intercept=-100.0, compressed=True
    ),
}


def uid(seed: int, *parts: str) -> str:
    """Return a DICOM UID that depends only on the seed and the parts."""
    return str(generate_uid(entropy_srcs=["fedmama-sim", str(seed), *parts]))


def write_mammogram(  # noqa: PLR0913  (keywords)
    path: Path,
    image: Mammogram,
    vendor: Vendor,
    rng: np.random.Generator,
    *,
    patient: str,
    study: str,
    series: str,
    instance: str,
) -> None:
    """Write one image as a DICOM file; `rng` generates its noise."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = instance
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.PatientID = patient
    dataset.PatientName = "Synthetic^Patient"
    dataset.PatientSex = "F"
    dataset.Modality = "MG"
    dataset.Manufacturer = vendor.manufacturer
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.BodyPartExamined = "BREAST"
    dataset.ImageLaterality = image.laterality
    dataset.ViewPosition = image.view
    dataset.PixelSpacing = [PIXEL_MM, PIXEL_MM]
    dataset.RescaleSlope, dataset.RescaleIntercept = vendor.slope, vendor.intercept
    dataset.RescaleType = "US"
    if vendor.windowed:
        low, high = (vendor.offset * _top(vendor), (vendor.offset + vendor.gain) * _top(vendor))
        dataset.WindowCenter = round((low + high) / 2 * vendor.slope + vendor.intercept)
        dataset.WindowWidth = round((high - low) * vendor.slope)
    dataset.set_pixel_data(
        stored_values(image.pixels, vendor, rng),
        "MONOCHROME1" if vendor.monochrome1 else "MONOCHROME2",
        vendor.bits,
        generate_instance_uid=False,
    )
    dataset.PresentationLUTShape = "INVERSE" if vendor.monochrome1 else "IDENTITY"
    if vendor.compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def stored_values(
    pixels: NDArray[np.float32], vendor: Vendor, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return stored pixel values (height, width) for brightness in [0, 1]."""
    noise = vendor.noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    signal = np.clip(pixels**vendor.gamma * vendor.gain + vendor.offset + noise, 0, 1)
    values = np.round(signal * _top(vendor)).astype(np.uint16)
    return _top(vendor) - values if vendor.monochrome1 else values


def _top(vendor: Vendor) -> np.uint16:
    return np.uint16(2**vendor.bits - 1)
