"""Bounds on the decoded size of a DICOM file, checked before a decoder allocates the memory.

A few kilobytes can inflate to gigabytes of zeros, or hold a compressed image whose size differs
from the header.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pydicom
from pydicom.encaps import generate_frames
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

# Larger than any mammogram, small enough that a compressed file cannot expand to gigabytes.
MOST_PIXELS = 100_000_000
# Two bytes per pixel, plus the header.
MOST_BYTES = 2 * MOST_PIXELS + 2**26
_PIECE = 2**20
# JPEG start-of-frame markers (ITU-T T.81, table B.1), with that of JPEG-LS (T.87).
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers that no length field follows


def inflates_beyond(handle: BinaryIO, most: int = MOST_BYTES) -> bool:
    """Return whether a file of the deflated transfer syntax inflates beyond `most` bytes."""
    handle.seek(0)
    read_preamble(handle, force=False)
    # pydicom's private reader, because it stops before the deflated part.
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
    """Return height and width in pixels of the first compressed frame, from its codestream.

    None if the pixels are uncompressed, or the compression (RLE) stores no size.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == RLELossless:
        return None
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    if frame.startswith(b"\xff\xd8"):
        return _jpeg_size(frame)
    start = frame.find(b"\xff\x4f\xff\x51")  # a JP2 file has boxes before it
    return _jpeg_2000_size(frame[start:]) if start >= 0 else None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    for marker, place in _segments(frame):
        if marker in _FRAMES:
            return _number(frame, place + 3, 2), _number(frame, place + 5, 2)
    return None


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers before the entropy-coded data, each with the offset of its length field."""
    place = 2
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker, place = frame[place + 1], place + 2
        if marker == 0xFF:  # a fill byte
            place -= 1
        elif marker not in _WITHOUT_LENGTH:
            yield marker, place
            place += max(2, _number(frame, place, 2))


def _jpeg_2000_size(stream: bytes) -> tuple[int, int]:
    """Return the reference grid's size minus the image's offset (ITU-T T.800, A.5.1)."""
    width, height, left, top = (_number(stream, place, 4) for place in (8, 12, 16, 20))
    return height - top, width - left


def _number(data: bytes, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "big")
