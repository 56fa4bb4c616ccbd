"""Picture files of the cache: NumPy's .npy format followed by the CRC-32 of its bytes.

The checksum keeps bit flips on disk out of training. `numpy.load` reads the file like any other.
"""

import base64
import io
import os
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

CRC = 4  # bytes, little-endian


def write_picture(path: Path, pixels: np.ndarray) -> int:
    """Write uint8 pixels (height, width) atomically; return the file size in bytes.

    The file is renamed but not synced, which would take half of an ingest's time.
    """
    file = io.BytesIO()
    np.save(file, pixels, allow_pickle=False)
    data = file.getvalue()
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(data + zlib.crc32(data).to_bytes(CRC, "little"))
    os.replace(temporary, path)
    return len(data) + CRC


def read_picture(path: Path) -> np.ndarray:
    """Return the pixels, uint8 (height, width).

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged or not a picture.
    """
    data = path.read_bytes()
    if zlib.crc32(data[:-CRC]).to_bytes(CRC, "little") != data[-CRC:]:
        raise ValueError("the checksum does not match")
    pixels = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or not pixels.size:
        raise ValueError("not a greyscale picture")
    return pixels


def data_url(picture: Image.Image, kind: Literal["png", "jpeg"] = "png") -> str:
    """Return a picture as a URL for a page that loads nothing; a JPEG is smaller and inexact."""
    data = io.BytesIO()
    exact = {} if kind == "png" else {"subsampling": 0}  # thin coloured lines stay
    picture.save(data, kind, optimize=True, **exact)
    return f"data:image/{kind};base64," + base64.b64encode(data.getvalue()).decode()
