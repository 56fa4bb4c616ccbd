"""Scan of a folder for mammograms: every file is named that could be one and is not used."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mama.data.dicom.file import is_dicom
from mama.data.dicom.header import Header, read_header
from mama.data.dicom.reasons import ImageError, Reason

EXTENSIONS = (".dcm", ".dicom", ".dic", ".ima")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


class Found(NamedTuple):
    """A mammogram: its header and files, of which those after the first are copies."""

    header: Header
    paths: tuple[Path, ...]


class Scan(NamedTuple):
    """Mammograms of a folder in path order; skipped files and folders; archives not looked into."""

    found: list[Found]
    skipped: list[tuple[Path, Reason]]
    archives: list[Path]


def scan(folder: Path) -> Scan:
    """Read the headers of all DICOM files below a folder, through linked folders too.

    Files of one SOPInstanceUID are copies of each other: the later ones are read only if the
    earlier ones turn out to be damaged.
    """
    images: dict[str, Found] = {}
    result = Scan([], [], [])
    for path, reason in _files(folder):
        if reason:
            result.skipped.append((path, reason))
            continue
        if path.suffix.lower() in ARCHIVES:
            result.archives.append(path)
            continue
        try:
            if not _is_candidate(path):
                continue
            header = read_header(path)
        except ImageError as error:
            result.skipped.append((path, error.reason))
            continue
        earlier = images.get(header.image)
        paths = (*earlier.paths, path) if earlier else (path,)
        images[header.image] = Found(earlier.header if earlier else header, paths)
    result.found.extend(images.values())
    return result


def _files(folder: Path) -> Iterator[tuple[Path, Reason | None]]:
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
            path = current / entry.name
            try:
                if entry.is_dir():
                    folders.append(path)
                elif entry.is_file():
                    yield path, None
            except OSError as error:
                yield path, _reason(error)
        waiting.extend(reversed(folders))


def _reason(error: OSError) -> Reason:
    return "no-permission" if isinstance(error, PermissionError) else "read-error"


def _is_candidate(path: Path) -> bool:
    """Return whether a file is DICOM by its name or its magic bytes."""
    if path.name.upper() == "DICOMDIR" or path.name.startswith("._"):
        return False
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        return is_dicom(path)
    except OSError as error:
        raise ImageError(_reason(error), path) from None
