"""Scan of a folder for mammograms: every file is named that could be one and is not used."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mama.data.dicom.header import Header
from mama.data.dicom.headers import ReadHeaders, read_headers
from mama.data.dicom.reasons import Reason

PARTIAL = ".partial"  # folder of studies that are being pulled from an archive
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


class Found(NamedTuple):
    """A mammogram: its header and files, of which those after the first are copies.

    `shared` is True if an image of another patient or study has the same SOPInstanceUID.
    """

    header: Header
    paths: tuple[Path, ...]
    shared: bool = False

    @property
    def id(self) -> str:
        """Identifier of the image in its source."""
        header = self.header
        names = (header.patient, header.study, header.image) if self.shared else (header.image,)
        return " ".join(names)


class Scan(NamedTuple):
    """Mammograms of a folder in path order; skipped files and folders; archives not looked into."""

    found: list[Found]
    skipped: list[tuple[Path, Reason]]
    archives: list[Path]


def scan(folder: Path, read: ReadHeaders = read_headers) -> Scan:
    """Find the mammograms below a folder by their headers, through linked folders too.

    Files of one SOPInstanceUID, patient and study are copies of each other: the pixels of the later
    ones are read only if the earlier ones turn out to be damaged.

    Args:
        folder: where to look.
        read: reads the headers.
    """
    images: dict[tuple[str, str, str], Found] = {}
    result = Scan([], [], [])
    files: list[Path] = []
    for path, reason in files_below(folder):
        if reason:
            result.skipped.append((path, reason))
            continue
        if path.suffix.lower() in ARCHIVES:
            result.archives.append(path)
            continue
        files.append(path)
    for path, outcome in zip(files, read(files), strict=True):
        if isinstance(outcome, Header):
            key = (outcome.image, outcome.patient, outcome.study)
            earlier = images.get(key)
            paths = (*earlier.paths, path) if earlier else (path,)
            images[key] = Found(earlier.header if earlier else outcome, paths)
        elif outcome:
            result.skipped.append((path, outcome))
    uses = Counter(image for image, _, _ in images)
    result.found.extend(
        one._replace(shared=uses[image] > 1) for (image, _, _), one in images.items()
    )
    return result


def files_below(folder: Path) -> Iterator[tuple[Path, Reason | None]]:
    """Yield all files in path order, and folders that cannot be listed with their reason.

    A linked folder is entered once, so that a link to a folder above ends.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            yield current, _reason(error)
            continue
        folders = []
        for entry in entries:
            if entry.name == PARTIAL:
                continue
            path = current / entry.name
            try:
                if entry.is_dir():
                    folders.append(path)
                elif entry.is_file():
                    yield path, None
                elif entry.is_symlink():  # to what is not there, such as a disk not mounted
                    yield path, "read-error"
            except OSError as error:
                yield path, _reason(error)
        waiting.extend(reversed(folders))


def _reason(error: OSError) -> Reason:
    return "no-permission" if isinstance(error, PermissionError) else "read-error"
