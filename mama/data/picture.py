"""A cached picture's file: NumPy's .npy format, and behind it the CRC-32 of its bytes.

A bit that flips on the disk would otherwise be trained on. `numpy.load` reads such a file as any other.
"""

import io
import os
import zlib
from pathlib import Path

import numpy as np

CRC = 4  # bytes, little-endian


def write_picture(path: Path, pixels: np.ndarray) -> int:
    """Write uint8 pixels (height, width) so that the file is there whole or not at all; returns its size in bytes.

    It is renamed, but not synced, which would take half of an ingest's time.
    """
    file = io.BytesIO()
    np.save(file, pixels, allow_pickle=False)
    data = file.getvalue()
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(data + zlib.crc32(data).to_bytes(CRC, "little"))
    os.replace(temporary, path)
    return len(data) + CRC


def read_picture(path: Path) -> np.ndarray:
    """The pixels, uint8 (height, width).

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or no picture.
    """
    data = path.read_bytes()
    if zlib.crc32(data[:-CRC]).to_bytes(CRC, "little") != data[-CRC:]:
        raise ValueError("its checksum differs")
    pixels = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or not pixels.size:
        raise ValueError("no picture")
    return pixels
