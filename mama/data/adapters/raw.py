"""What an adapter reads from a hospital's folder, before anything is hashed or decoded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mama.data.studies import Labels, Laterality, Split


class Skipped(NamedTuple):
    """A file that was left out: its name, and a code of `mama.data.dicom.REASONS`."""

    file: str
    reason: str


@dataclass(frozen=True)
class RawImage:
    """One mammogram file; `id` is its identity at the hospital."""

    path: Path = field(repr=False)
    id: str = field(repr=False)
    laterality: Laterality | None
    view: str | None
    vendor: str | None = None


@dataclass(frozen=True)
class RawStudy:
    """One exam. `patient` and `study` are the hospital's own identifiers and stay out of `repr`.

    `split` is None where the hospital leaves the choice to ingest, `report` where there is none.
    """

    patient: str = field(repr=False)
    study: str = field(repr=False)
    split: Split | None
    images: tuple[RawImage, ...]
    report: str | None = field(repr=False)
    labels: Labels


@dataclass(frozen=True)
class RawDataset:
    """All studies of a folder, the files that are none, and the report rows that fit no study."""

    studies: tuple[RawStudy, ...]
    skipped: tuple[Skipped, ...] = ()
    unmatched_reports: int = 0


class Adapter(Protocol):
    """Reads one layout of images, reports and labels."""

    def __call__(self, source: Path) -> RawDataset:
        """Read a folder.

        Raises:
            DataError: the folder does not have the layout, or a table of it is wrong.
        """
        ...
