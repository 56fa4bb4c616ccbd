"""Ingested dataset of one site: `manifest.json` and an image cache.

Training and evaluation read only this folder:

    manifest.json           studies, reports and labels under keyed ids (`mama.system.sealed`)
    images/<image id>.npy   uint8 (height, width); 0 is background, tissue is 1-255

Each breast is cropped to its bounding box, mirrored so that the chest wall is on the left, and
resized with its aspect ratio kept. The tissue mask is `pixels > 0` and is not stored separately.
"""

import hmac
from pathlib import Path
from typing import Literal

import numpy as np

from mama.data.picture import read_picture
from mama.data.secret import key_check
from mama.data.studies import Image, Record, Split, Study
from mama.errors import ConfigError, DataError, IntegrityError
from mama.system.sealed import read_sealed, write_sealed

MANIFEST = "manifest.json"
FORMAT: Literal[3] = 3
INGEST = "ingest images and reports (`mama ingest`, at a site `mama-site ingest`)"


class Manifest(Record):
    """All studies of a dataset.

    `long_side` is the longest side of the cached images in pixels; `key_check` identifies the key
    of all ids. `share_weights` is False if the data's licence lets no weights trained on it be
    shared.
    """

    format: Literal[3] = FORMAT
    adapter: str
    key_check: str
    long_side: int
    share_weights: bool = True
    studies: tuple[Study, ...]


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

    def studies(self, split: Split) -> list[Study]:
        """Return the studies of one split, in manifest order."""
        return [study for study in self.manifest.studies if study.split == split]

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
        return Manifest.model_validate(read_sealed(path))
    except (IntegrityError, ValueError) as error:
        raise DataError(
            "the manifest is damaged or of another version",
            where=str(path),
            fix="Ingest the dataset again",
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically, after all images: a folder with a manifest is complete."""
    write_sealed(folder / MANIFEST, manifest.model_dump(mode="json"))
