"""Headers of many files: what each file is, or why it is not used."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mama.data.dicom.file import is_dicom
from mama.data.dicom.header import Header, read_header
from mama.data.dicom.reasons import ImageError, Reason

EXTENSIONS = (".dcm", ".dicom", ".dic", ".ima")

# A mammogram's header, the reason for which a file is not used, or None if it is no DICOM file.
Outcome = Header | Reason | None
# Yields the outcome of each file, in order.
ReadHeaders = Callable[[list[Path]], Iterable[Outcome]]


def read_headers(paths: Iterable[Path]) -> Iterator[Outcome]:
    """Yield what each file is, in order."""
    return map(read_outcome, paths)


def read_outcome(path: Path) -> Outcome:
    """Return what a file is."""
    try:
        return read_header(path) if _is_candidate(path) else None
    except ImageError as error:
        return error.reason


def _is_candidate(path: Path) -> bool:
    """Return True if a file is DICOM by its name or its magic bytes."""
    if path.name.upper() == "DICOMDIR" or path.name.startswith("._"):
        return False
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        return is_dicom(path)
    except PermissionError:
        raise ImageError("no-permission", path) from None
    except OSError:
        raise ImageError("read-error", path) from None
