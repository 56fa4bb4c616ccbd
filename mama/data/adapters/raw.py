"""Raw studies: the output of an adapter, before identifiers are hashed and images decoded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mama.config.ingest import IngestConfig
from mama.data.adapters.notes import Note
from mama.data.dicom.headers import ReadHeaders
from mama.data.studies import Labels, Laterality, Split

# Side and view of an image; None where unknown.
Place = tuple[Laterality | None, str | None]


class Skipped(NamedTuple):
    """A skipped file: its path relative to the source and a code of `mama.data.dicom.REASONS`."""

    file: str
    reason: str


class RawBox(NamedTuple):
    """A finding's box in pixels of the stored image: x to the right, y downwards, end excluded."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str


@dataclass(frozen=True)
class Part:
    """One text of a report as exported, and the breast that it is about if its row names one."""

    text: str = field(repr=False)
    side: Laterality | None = None


@dataclass(frozen=True)
class RawImage:
    """One mammogram file; `id` is the hospital's identifier of the image.

    `copies` are other files of the same image, used if the first is damaged; `flags` are its
    special kinds (`mama.config.ingest.Kind`). `hung` images are stored as they are read, with the
    chest wall of a left breast on the left, or on the right if `flipped`, so that the chest wall
    can confirm the side. `spacing` is that of the pixels in mm.
    """

    path: Path = field(repr=False)
    id: str = field(repr=False)
    laterality: Laterality | None
    view: str | None
    vendor: str | None = None
    copies: tuple[Path, ...] = field(default=(), repr=False)
    boxes: tuple[RawBox, ...] = ()
    flags: tuple[str, ...] = ()
    hung: bool = False
    flipped: bool = False
    spacing: float | None = None


def may_show_one_view(one: Place, other: Place) -> bool:
    """Return True if two images, by side and view, may be of one breast in one view."""
    return all(a == b or a is None or b is None for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class RawStudy:
    """One exam, under the hospital's own identifiers, which `repr` omits.

    `split` is None if ingest should choose it; `report` is None if the study has none, and parts if
    it has several texts or one of a single breast. `age` is the band of the patient's age
    (`mama.data.dicom.ages`); None if unknown.
    """

    patient: str = field(repr=False)
    study: str = field(repr=False)
    split: Split | None
    images: tuple[RawImage, ...]
    report: str | tuple[Part, ...] | None = field(repr=False)
    labels: Labels
    age: str | None = None


@dataclass(frozen=True)
class RawDataset:
    """All studies of a folder, the skipped files, and remarks on both.

    `share_weights` is False if the set's licence lets no weights trained on it leave the site.
    """

    studies: tuple[RawStudy, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()
    share_weights: bool = True


class Adapter(Protocol):
    """Reader of one layout of images, reports and labels."""

    def __call__(
        self, source: Path, config: IngestConfig = ..., headers: ReadHeaders = ..., /
    ) -> RawDataset:
        """Read a folder as the configuration says; `headers` reads those of DICOM files.

        Raises:
            DataError: the folder does not have the expected layout, or one of its tables is
                invalid.
        """
        ...
