"""Bounds on what a DICOM file unfolds to, known before a decoder takes the memory.

A few kilobytes can be deflated zeros for gigabytes, or hold a compressed image of another size than the header says.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pydicom
from pydicom.encaps import generate_frames
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

# Larger than any mammogram, and such that a small compressed file cannot take gigabytes.
MOST_PIXELS = 100_000_000
# Two bytes a pixel, and room for the header.
MOST_BYTES = 2 * MOST_PIXELS + 2**26
_PIECE = 2**20
# JPEG: start-of-frame markers (ITU-T T.81, table B.1), and that of JPEG-LS (T.87).
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def inflates_beyond(handle: BinaryIO, most: int = MOST_BYTES) -> bool:
    """Whether the file is of the deflated transfer syntax and has more than `most` bytes behind it."""
    handle.seek(0)
    read_preamble(handle, force=False)
    # pydicom's own reader, which ends where it begins to inflate.
    syntax = _read_file_meta_info(handle).get("TransferSyntaxUID")
    if syntax != DeflatedExplicitVRLittleEndian:
        return False
    inflate, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflate.eof and (data := inflate.unconsumed_tail or handle.read(_PIECE)):
        total += len(inflate.decompress(data, _PIECE))
        if total > most:
            return True
    return False


def frame_size(dataset: pydicom.Dataset) -> tuple[int, int] | None:
    """Height and width in pixels of the first compressed frame, as its own stream has them.

    None where the pixels are not compressed, or by a method that has no size of its own (RLE).
    """
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        return None
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    if frame.startswith(b"\xff\xd8"):
        return _jpeg_size(frame)
    start = frame.find(b"\xff\x4f\xff\x51")  # also behind the boxes of a JP2 file
    return _jpeg_2000_size(frame[start:]) if start >= 0 else None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    for marker, place in _segments(frame):
        if marker in _FRAMES:
            return _number(frame, place + 3, 2), _number(frame, place + 5, 2)
    return None


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Markers before the image's data, each with the place of its length."""
    place = 2
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker, place = frame[place + 1], place + 2
        if marker == 0xFF:  # a fill byte
            place -= 1
        elif marker not in _ALONE:
            yield marker, place
            place += max(2, _number(frame, place, 2))


def _jpeg_2000_size(stream: bytes) -> tuple[int, int]:
    """ITU-T T.800, A.5.1: the reference grid less the image's offset."""
    width, height, left, top = (_number(stream, place, 4) for place in (8, 12, 16, 20))
    return height - top, width - left


def _number(data: bytes, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "big")
