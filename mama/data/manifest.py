"""The ingested dataset of one site: `manifest.json` beside a cache of images.

The folder is all that training and evaluation read:

    manifest.json           studies, reports and labels under keyed-hash ids, sealed (`mama.sealed`)
    images/<image id>.npy   uint8 (height, width); 0 is background, tissue is 1-255

A breast is cropped to its bounding box, mirrored so that the chest wall is on the left and resized
with its aspect ratio kept, so that the tissue mask is `pixels > 0` and nothing else is stored.
"""

import hmac
from pathlib import Path
from typing import Literal

import numpy as np

from mama.data.picture import read_picture
from mama.data.secret import key_check
from mama.data.studies import Image, Record, Split, Study
from mama.errors import ConfigError, DataError, IntegrityError
from mama.sealed import read_sealed, write_sealed

MANIFEST = "manifest.json"
FORMAT: Literal[2] = 2
INGEST = "ingest images and reports (`mama ingest`, at a site `mama-site ingest`)"


class Manifest(Record):
    """All studies of a dataset. `long_side` is the cached images' longest side in pixels, `key_check` that of the key
    under which all ids were made.
    """

    format: Literal[2] = FORMAT
    adapter: str
    key_check: str
    long_side: int
    studies: tuple[Study, ...]


class Dataset:
    """An ingested dataset on disk.

    Raises:
        DataError: the folder is no ingested dataset, or one of another format.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)

    def studies(self, split: Split) -> list[Study]:
        """The studies of one split, in manifest order."""
        return [study for study in self.manifest.studies if study.split == split]

    def require_key(self, key: bytes) -> None:
        """Refuse another key than the one under which the ids were made.

        Raises:
            DataError: it is another, or a new one: whoever withdrew would not be found.
        """
        if not hmac.compare_digest(self.manifest.key_check.encode(), key_check(key).encode()):
            raise DataError(
                "was ingested under another key of pseudonyms",
                where=str(self.folder),
                fix="Restore that key from the backup; where it is lost, remove the dataset, ingest anew, and check "
                "that `mama-site check` finds everybody on the list of withdrawn patients",
            )

    def require(self, size: tuple[int, int]) -> None:
        """Refuse an image size in pixels (height, width) that the cache could only enlarge.

        Raises:
            DataError: the dataset was ingested smaller.
        """
        if self.manifest.long_side < max(size):
            raise DataError(
                f"was ingested at {self.manifest.long_side} pixels, the experiment needs {max(size)}",
                where=str(self.folder),
                fix=f"Ingest its source with --long-side {max(size)} into a new folder",
            )

    def require_long_side(self, long_side: int) -> None:
        """Refuse another longest side, in pixels, than that of the pictures here, which would all be replaced.

        Raises:
            ConfigError: it is another.
        """
        there = self.manifest.long_side
        if there != long_side:
            raise ConfigError(
                f"holds a dataset at {there} pixels, not {long_side}",
                where=str(self.folder),
                fix=f"Give another folder, or --long-side {there}, or remove it",
            )

    def pixels(self, image: Image) -> np.ndarray:
        """uint8 (height, width); 0 is background."""
        try:
            return read_picture(self.image_path(image))
        except (OSError, ValueError) as error:
            raise DataError(
                "cached image is missing or damaged",
                where=str(self.image_path(image)),
                fix="Ingest the dataset again",
            ) from error

    def image_path(self, image: Image) -> Path:
        """Where the cache keeps an image."""
        return self.folder / "images" / f"{image.id}.npy"


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.json`."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise DataError("no such folder", where=str(folder), fix=f"Check the path, or {INGEST}")
    if not path.is_file():
        raise DataError(
            "no ingested dataset here",
            where=str(folder),
            fix=f"First {INGEST}",
        )
    try:
        return Manifest.model_validate(read_sealed(path))
    except (IntegrityError, ValueError) as error:
        raise DataError(
            "manifest is damaged or of another version",
            where=str(path),
            fix="Ingest the dataset again",
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically; do it last, so that a folder with one is complete."""
    write_sealed(folder / MANIFEST, manifest.model_dump(mode="json"))
