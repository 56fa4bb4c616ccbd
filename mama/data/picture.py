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
# A scanned document: black print on white paper fills a picture as tissue would. White print on
# black has too little area to be taken for a breast.
FILLED = 0.9  # share of the crop that is lit: a breast leaves the corners of its crop dark
EVEN = 0.65  # share of the lit pixels that have about the same grey
ABOUT = 12  # levels of 255
BRIGHT = 127  # level; paper is brighter than print


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


def is_document(pixels: np.ndarray) -> bool:
    """Return True if a picture is a bright rectangle of one grey, such as paper or a banner.

    Args:
        pixels: uint8 (height, width), a crop of which 0 is background.
    """
    counts = np.bincount(pixels.ravel(), minlength=256)
    lit = counts[1:]
    if lit.sum() < FILLED * pixels.size:
        return False
    near = np.convolve(lit, np.ones(2 * ABOUT + 1, int), mode="same")
    return bool(near.max() > EVEN * lit.sum() and near.argmax() + 1 > BRIGHT)
