"""Small files that expand to large ones are refused before a decoder allocates memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mama.data.dicom import file, pixels
from mama.data.dicom.bounds import _jpeg_2000_size, _jpeg_size, frame_size, inflates_beyond
from mama.data.dicom.header import read_header
from mama.data.dicom.pixels import read_pixels
from mama.data.dicom.reasons import ImageError
from tests.mama.data.dicom.test_pixels import _transcode

gdcm = pytest.importorskip("gdcm")

Write = Callable[..., Path]
SYNTAXES = (
    "JPEGBaselineProcess1",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "JPEG2000",
)


def reason(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_pixels(path)
    return caught.value.reason


def compressed(write_dicom: Write, path: Path, syntax: str, **fields: Any) -> Path:
    stored = np.arange(48 * 40, dtype=np.uint8).reshape(48, 40)
    fields = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, **fields}
    path = write_dicom(path, stored, **fields)
    _transcode(path, getattr(gdcm.TransferSyntax, syntax))
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("rows", [24, 96])
def test_a_stream_of_another_size_than_the_header(
    tmp_path: Path, write_dicom: Write, syntax: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compressed(write_dicom, tmp_path / "a.dcm", syntax)
    assert frame_size(pydicom.dcmread(path)) == (48, 40)
    assert read_pixels(path).shape == (48, 40)
    dataset = pydicom.dcmread(path)
    dataset.Rows = rows
    dataset.save_as(path)
    decoded: list[object] = []
    monkeypatch.setattr(pixels, "pixel_array", decoded.append)
    assert (reason(path), decoded) == ("unreadable", [])


def test_deflated_files_are_bounded(
    tmp_path: Path, write_dicom: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((500, 400), np.uint16))
    plain = read_pixels(path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert path.stat().st_size < 3000
    np.testing.assert_array_equal(read_pixels(path), plain)
    with open(path, "rb") as handle:
        assert inflates_beyond(handle, 400_000)
        assert not inflates_beyond(handle, 401_000)
    monkeypatch.setattr(file, "inflates_beyond", lambda handle: inflates_beyond(handle, 400_000))
    assert reason(path) == "too-large"
    with pytest.raises(ImageError, match="100 million"):
        read_header(path)


@pytest.mark.parametrize("times", [2, 3.5])
def test_more_pixels_than_the_header_has(tmp_path: Path, write_dicom: Write, times: float) -> None:
    path = write_dicom(tmp_path / "a.dcm", PixelData=bytes(int(96 * 64 * 2 * times)))
    assert reason(path) == "unreadable"


def test_pictures_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(path)
    assert read_pixels(path).shape == (30, 20)
    monkeypatch.setattr(pixels, "MOST_PIXELS", 599)
    assert reason(path) == "too-large"


@given(st.binary(max_size=200))
def test_streams_of_any_bytes(data: bytes) -> None:
    for size in (_jpeg_size(b"\xff\xd8" + data), _jpeg_2000_size(data)):
        assert size is None or all(isinstance(side, int) for side in size)


def test_a_size_behind_other_segments(tmp_path: Path, write_dicom: Write) -> None:
    """Application data that holds a marker of its own, and fill bytes."""
    path = compressed(write_dicom, tmp_path / "a.dcm", "JPEGBaselineProcess1")
    frame = next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
    decoy = b"\xff\xe5\x00\x0c\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01"
    assert _jpeg_size(frame[:2] + decoy + b"\xff" + frame[2:]) == (48, 40)
    assert _jpeg_size(frame[:2] + decoy) is None


def test_an_rle_frame_is_no_codestream_whatever_its_bytes(
    tmp_path: Path, write_dicom: Write
) -> None:
    # The marker of JPEG 2000, which the bytes of a picture can hold by chance.
    stored = np.tile(np.array([0xFF, 0x4F, 0xFF, 0x51], np.uint8), (40, 12))
    fields = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    path = write_dicom(tmp_path / "a.dcm", stored, **fields)
    plain = read_pixels(path)
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(path)
    assert b"\xff\x4f\xff\x51" in pydicom.dcmread(path).PixelData
    assert frame_size(pydicom.dcmread(path)) is None
    np.testing.assert_array_equal(read_pixels(path), plain)
