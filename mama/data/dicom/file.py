"""Open DICOM files so that nothing of a damaged or hostile one leaves as text or memory.

Errors name the file and quote nothing from it: headers hold patient data, so pydicom's warnings,
exception messages and log are suppressed.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mama.data.dicom.bounds import inflates_beyond
from mama.data.dicom.reasons import ImageError

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # warnings quote header values


def is_dicom(path: Path) -> bool:
    """Return whether the file starts with DICOM's preamble and magic bytes."""
    with open(path, "rb") as handle:
        return has_magic(handle)


def has_magic(handle: BinaryIO) -> bool:
    """Return whether an open file starts with DICOM's preamble and magic bytes."""
    return handle.read(132)[128:] == b"DICM"


def open_dataset(handle: BinaryIO, path: Path, **options: Any) -> pydicom.FileDataset:
    """Parse an open file with pydicom's options; refuse one that inflates to gigabytes.

    A file without preamble is read as the data set that it may be.
    """
    handle.seek(0)
    whole = has_magic(handle)
    if whole and inflates_beyond(handle):
        raise ImageError("too-large", path)
    handle.seek(0)
    dataset = pydicom.dcmread(handle, force=not whole, **options)
    if not whole:
        if "SOPClassUID" not in dataset:
            raise ImageError("unreadable", path)
        implicit = dataset.original_encoding[0]
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = dataset.file_meta.get("TransferSyntaxUID", syntax)
    return dataset


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Turn any decoder error into one `ImageError`.

    pydicom and the codecs raise almost any exception on invalid input, and their messages and
    warnings quote header values, so both are dropped.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ImageError, MemoryError):
            raise
        except PermissionError:
            raise ImageError("no-permission", path) from None
        except OSError as error:
            # Decoders raise OSError without a number for damaged pixels.
            raise ImageError("read-error" if error.errno else "unreadable", path) from None
        except Exception:
            raise ImageError("unreadable", path) from None
