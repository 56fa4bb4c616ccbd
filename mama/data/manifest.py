"""Ingested dataset of one site: `manifest.json` and an image cache.

Training and evaluation read only this folder:

    manifest.json           studies, reports and labels under keyed ids (`mama.system.sealed`)
    images/<image id>.npy   uint8 (height, width); 0 is background, tissue is 1-255

Each breast is cropped to its bounding box, mirrored so that the chest wall is on the left, and
resized with its aspect ratio kept. The tissue mask is `pixels > 0` and is not stored separately.
"""

import hmac
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict

from mama.data.picture import read_picture
from mama.data.secret import key_check
from mama.data.studies import Columns, Image, Record, Split, Studies, Study, Table
from mama.errors import ConfigError, DataError, IntegrityError
from mama.system.sealed import SealedRecords, write_records

MANIFEST = "manifest.json"
FORMAT: Literal[4] = 4
INGEST = "ingest images and reports (`mama ingest`, at a site `mama-site ingest`)"


class Facts(Record):
    """Facts on a dataset as a whole.

    `long_side` is the longest side of the cached images in pixels; `key_check` identifies the key
    of all ids. `share_weights` is False if the data's licence lets no weights trained on it be
    shared.
    """

    adapter: str
    key_check: str
    long_side: int
    share_weights: bool = True


class Manifest(Facts):
    """All studies of a dataset, and the facts on it; any iterable of studies makes one."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    studies: Annotated[Studies, BeforeValidator(Studies.of)]


class Head(Facts):
    """Head of the manifest's file: all but the studies, each of which is a record of the file."""

    format: Literal[4] = FORMAT
    columns: Columns


class Dataset:
    """An ingested dataset on disk.

    Args:
        folder: folder of the dataset.

    Raises:
        DataError: the folder holds no ingested dataset, or one of another format.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)

    def studies(self, split: Split) -> Studies:
        """Return the studies of one split, in manifest order."""
        return self.manifest.studies.of_split(split)

    def require_key(self, key: bytes) -> None:
        """Refuse a key other than the one the ids were made with.

        Raises:
            DataError: the key differs, so withdrawn patients could not be found.
        """
        if not hmac.compare_digest(self.manifest.key_check.encode(), key_check(key).encode()):
            raise DataError(
                "the dataset was ingested with another pseudonym key",
                where=str(self.folder),
                fix="Restore that key from the backup. If it is lost, remove the dataset, ingest "
                "again, and verify with `mama-site check` that all withdrawn patients are found",
            )

    def require(self, size: tuple[int, int]) -> None:
        """Refuse an image size, (height, width) in pixels, that would need upsampling of the cache.

        Raises:
            DataError: the dataset was ingested at a smaller size.
        """
        if self.manifest.long_side < max(size):
            raise DataError(
                f"the dataset was ingested at {self.manifest.long_side} pixels, "
                f"the experiment needs {max(size)}",
                where=str(self.folder),
                fix=f"Ingest the source with --long-side {max(size)} into a new folder",
            )

    def require_long_side(self, long_side: int) -> None:
        """Refuse to ingest at another `long_side`, in pixels, which would replace all pictures.

        Raises:
            ConfigError: the dataset has another `long_side`.
        """
        current = self.manifest.long_side
        if current != long_side:
            raise ConfigError(
                f"the folder holds a dataset at {current} pixels, not {long_side}",
                where=str(self.folder),
                fix=f"Choose another folder, use --long-side {current}, or remove the dataset",
            )

    def pixels(self, image: Image) -> np.ndarray:
        """Return the pixels of an image, uint8 (height, width); 0 is background.

        Raises:
            DataError: the cached image is missing or damaged.
        """
        try:
            return read_picture(self.image_path(image))
        except (OSError, ValueError) as error:
            raise DataError(
                "the cached image is missing or damaged",
                where=str(self.image_path(image)),
                fix="Ingest the dataset again",
            ) from error

    def image_path(self, image: Image) -> Path:
        """Return the path of an image in the cache."""
        return self.folder / "images" / f"{image.id}.npy"


def read_manifest(folder: Path) -> Manifest:
    """Read and verify `folder/manifest.json`.

    Raises:
        DataError: the manifest is missing, damaged or of another format.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise DataError("no such folder", where=str(folder), fix=f"Check the path, or {INGEST}")
    if not path.is_file():
        raise DataError(
            "the folder holds no ingested dataset",
            where=str(folder),
            fix=f"First {INGEST}",
        )
    try:
        file = SealedRecords(path)
        head = Head.model_validate_json(file.head)
        if len(file) != len(head.columns.id):
            raise ValueError("a study without a record")
    except (IntegrityError, ValueError):
        raise _damaged(path) from None
    table = Table(head.columns, lambda row: _study(file, head.columns, row, path))
    return Manifest(
        **head.model_dump(include=set(Facts.model_fields)), studies=Studies.all_of(table)
    )


def _study(file: SealedRecords, columns: Columns, row: int, path: Path) -> Study:
    """Build a study from its record.

    Raises:
        DataError: the record is no study, or not the one of this row.
    """
    try:
        study = Study.model_validate_json(file.record(row))
    except (IntegrityError, ValueError):
        raise _damaged(path) from None
    expected = (columns.id[row], columns.patients[columns.patient[row]], columns.split[row])
    if (study.id, study.patient, study.split) != expected:
        raise _damaged(path)
    return study


def _damaged(path: Path) -> DataError:
    return DataError(
        "the manifest is damaged or of another version",
        where=str(path),
        fix="Ingest the dataset again",
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically, after all images: a folder with a manifest is complete."""
    studies = manifest.studies
    facts = manifest.model_dump(include=set(Facts.model_fields))
    head = Head(**facts, columns=Columns.of(studies))
    records = (study.model_dump_json() for study in studies)
    write_records(folder / MANIFEST, head.model_dump_json(), records)
