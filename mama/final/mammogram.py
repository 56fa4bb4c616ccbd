"""One mammogram from a DICOM file or a greyscale picture, prepared as ingest prepares it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mama.data.augment import Layout, on_canvas
from mama.data.dicom.fields import Fields
from mama.data.dicom.file import is_dicom, open_dataset, quiet
from mama.data.dicom.header import HEADER_FIELDS
from mama.data.dicom.kinds import exclusion
from mama.data.dicom.pixels import read_image
from mama.data.dicom.reasons import REASONS, ImageError
from mama.data.dicom.views import Placed, place
from mama.data.studies import Image
from mama.data.tissue import Breast, prepare
from mama.errors import DataError

NOWHERE = Placed(None, None)


@dataclass(frozen=True)
class Mammogram:
    """An image as its file shows it.

    Attributes:
        path: of the file.
        values: float32 (height, width) in [0, 1]; brighter is more X-ray absorption.
        placed: laterality and view from the DICOM header; None in a picture.
    """

    path: Path
    values: np.ndarray
    placed: Placed

    def breast(self, long_side: int) -> Breast:
        """Return the cropped breast, its longer side `long_side` pixels.

        Raises:
            DataError: there is no breast in the image.
        """
        found = prepare(self.values, long_side)
        if not found.found:
            raise _unusable(ImageError("no-tissue", self.path))
        return found

    def canvas(self, size: tuple[int, int], layout: Layout) -> np.ndarray:
        """Return the model's input before normalisation, uint8 of `size`; see `on_canvas`.

        Raises:
            DataError: there is no breast in the image.
        """
        return on_canvas(self.breast(max(size)).pixels, size, layout)

    @property
    def record(self) -> Image:
        """The image as a dataset records it."""
        height, width = self.values.shape
        return Image(
            id=self.path.stem,
            laterality=self.placed.laterality,
            view=self.placed.view,
            vendor=None,
            height=height,
            width=width,
        )


def read_mammogram(path: str | Path) -> Mammogram:
    """Read a DICOM mammogram, or a PNG, JPEG, TIFF or PGM picture of one.

    A picture's pixels are taken as display values. Unlike ingest, secondary captures are read, for
    public sets hold scanned films as such, and so are files without identifiers.

    Raises:
        DataError: the file is missing, damaged, in colour or no mammogram for reading.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such image", where=str(path), fix="Check the path")
    try:
        placed = _placed(path) if is_dicom(path) else NOWHERE
        return Mammogram(path, read_image(path).values, placed)
    except ImageError as error:
        raise _unusable(error) from None


def _placed(path: Path) -> Placed:
    with quiet(path), open(path, "rb") as handle:
        fields = Fields(
            open_dataset(handle, path, stop_before_pixels=True, specific_tags=HEADER_FIELDS)
        )
        reason = exclusion(fields)
        if reason not in (None, "secondary-capture"):
            raise ImageError(reason, path)
        return place(fields)


def _unusable(error: ImageError) -> DataError:
    """Return the error of one named file: ingest's remedies are for whole folders."""
    return DataError(
        f"cannot be used: {REASONS[error.reason][0]}",
        where=error.where,
        fix="Give a mammogram for presentation (DICOM) or a greyscale picture of one",
    )
