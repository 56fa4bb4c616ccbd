"""One file as display values: lookup tables, inversion, codecs, damage, discreet errors."""

import logging
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

from mama.data.dicom.header import read_header
from mama.data.dicom.pixels import read_image, read_pixels
from mama.data.dicom.reasons import ImageError

gdcm = pytest.importorskip("gdcm")

Write = Callable[..., Path]
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def test_without_tables_the_range_of_the_picture_is_shown(tmp_path: Path, write_dicom: Write):
    pixels = read_pixels(write_dicom(tmp_path / "a", RAMP))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, RAMP / 4095, atol=1e-6)


def test_window_is_applied_after_rescale(tmp_path: Path, write_dicom: Write):
    path = write_dicom(
        tmp_path / "a",
        RAMP,
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=[3000.5, 1],
        WindowWidth=[2001, 2],
    )
    expected = np.clip((RAMP * 2.0 - 100 - 2000) / 2000, 0, 1)
    np.testing.assert_allclose(read_pixels(path), expected, atol=1e-5)


def test_voi_lut_is_applied(tmp_path: Path, write_dicom: Write):
    lut = Dataset()
    lut.LUTDescriptor = [4096, 0, 16]
    lut.LUTData = struct.pack("<4096H", *(value**2 // 256 for value in range(4096)))
    lut["LUTData"].VR = "OW"
    pixels = read_pixels(write_dicom(tmp_path / "a", RAMP, VOILUTSequence=[lut]))
    np.testing.assert_allclose(pixels, (RAMP / 4095.0) ** 2, atol=1e-4)


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path, write_dicom: Write):
    window = {"WindowCenter": 1000, "WindowWidth": 800}
    plain = read_pixels(write_dicom(tmp_path / "a", RAMP, **window))
    path = write_dicom(tmp_path / "b", RAMP, PhotometricInterpretation="MONOCHROME1", **window)
    np.testing.assert_allclose(read_pixels(path), 1 - plain, atol=1e-6)
    assert 0 < plain.mean() < 1


@pytest.mark.parametrize("sense", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_background_in_either_sense(tmp_path: Path, write_dicom: Write, sense: str):
    stored = RAMP.clip(1000)
    stored[:10] = 0
    path = write_dicom(
        tmp_path / "a",
        stored,
        PhotometricInterpretation=sense,
        PixelPaddingValue=0,
        PixelPaddingRangeLimit=5,
    )
    pixels = read_pixels(path)
    assert (pixels[:10] == 0).all()
    assert pixels[10:].min() == 0
    assert pixels[10:].max() == 1


def test_signed_pixels(tmp_path: Path, write_dicom: Write):
    stored = RAMP.astype(np.int16) - 2048
    pixels = read_pixels(write_dicom(tmp_path / "a", stored))
    np.testing.assert_allclose(pixels, RAMP / 4095, atol=1e-6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_by_pydicom(
    tmp_path: Path, write_dicom: Write, picture: np.ndarray, syntax: str
):
    path = write_dicom(tmp_path / "a")
    plain = read_pixels(path)
    if syntax == RLELossless:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    else:
        _transcode(path, gdcm.TransferSyntax.JPEG2000Lossless)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_pixels(path), plain)


def test_jpeg_lossless(tmp_path: Path, write_dicom: Write):
    path = write_dicom(tmp_path / "a")
    plain = read_pixels(path)
    _transcode(path, gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    assert "JPEG Lossless" in pydicom.dcmread(path).file_meta.TransferSyntaxUID.name
    np.testing.assert_array_equal(read_pixels(path), plain)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"NumberOfFrames": 2, "PixelData": bytes(96 * 64 * 4)}, "multi-frame"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"BitsAllocated": 32}, "pixel-type"),
        ({"PixelData": None}, "pixel-type"),
        ({"PixelData": b"\0" * 100}, "unreadable"),
        # Each would take gigabytes if it were what it says.
        ({"Rows": 16384, "Columns": 16384}, "too-large"),
        ({"Rows": 65535, "Columns": 65535, "NumberOfFrames": 9999}, "too-large"),
        ({"Rows": 10000, "Columns": 10001, "BitsAllocated": 8}, "too-large"),
        ({"Rows": 10000, "Columns": 10000}, "unreadable"),  # as large as it may be, and cut short
    ],
)
def test_unsuitable_pixels(tmp_path: Path, write_dicom: Write, fields: dict, reason: str):
    path = write_dicom(tmp_path / "a.dcm", **fields)
    with pytest.raises(ImageError) as caught:
        read_pixels(path)
    assert caught.value.reason == reason
    assert str(caught.value).startswith("a.dcm: ")
    assert caught.value.fix


def test_a_file_of_several_frames_is_not_read_whole(tmp_path: Path, write_dicom: Write):
    path = write_dicom(tmp_path / "tomo.dcm", NumberOfFrames=2, PixelData=bytes(2 * 96 * 64 * 2))
    whole = path.read_bytes()
    small, large = (2 * 96 * 64 * frames for frames in (2, 2**15))
    at = whole.rindex(small.to_bytes(4, "little"))
    path.write_bytes(whole[:at] + large.to_bytes(4, "little"))
    os.truncate(path, at + 4 + large)  # a sparse file of 384 MiB
    tracemalloc.start()
    with pytest.raises(ImageError) as caught:
        read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == "multi-frame"
    assert peak < 2**24


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files_name_the_file_and_no_patient(
    tmp_path: Path, write_dicom: Write, compressed: bool, capfd, caplog, recwarn
):
    caplog.set_level(logging.DEBUG)
    path = write_dicom(tmp_path / "cut.dcm", PatientBirthDate="not a date: Doe^Jane")
    if compressed:
        _transcode(path, gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - 1500])
    capfd.readouterr(), caplog.clear(), recwarn.clear()
    with pytest.raises(ImageError, match=r"^cut\.dcm: .*damaged") as caught:
        read_pixels(path)
    assert caught.value.reason == "unreadable"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    seen = str(capfd.readouterr()) + caplog.text + "".join(str(item.message) for item in recwarn)
    assert "Doe" not in seen


def test_a_file_that_is_no_image(tmp_path: Path):
    path = tmp_path / "notes.dcm"
    path.write_text("Doe^Jane was here")
    for read in (read_header, read_pixels):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert caught.value.reason == "unreadable"
        assert "Doe" not in str(caught.value)


def test_header(tmp_path: Path, write_dicom: Write):
    path = write_dicom(
        tmp_path / "a",
        StudyInstanceUID="1.2.3",
        SOPInstanceUID="1.2.3.4",
        PatientID="P1",
        AccessionNumber=" A7 ",
        ImageLaterality="R",
        ViewPosition="MLO",
    )
    header = read_header(path)
    assert (header.patient, header.study, header.image) == ("P1", "1.2.3", "1.2.3.4")
    assert (header.accession, header.laterality, header.view) == ("A7", "R", "MLO")
    assert header.vendor == "Maker"
    assert not any(word in repr(header) for word in ("P1", "1.2.3", "A7"))


def test_wrong_values_in_a_header_are_not_quoted(
    tmp_path: Path, write_dicom: Write, capfd, caplog, recwarn
):
    caplog.set_level(logging.DEBUG)
    path = write_dicom(tmp_path / "a", StudyInstanceUID="Doe^Jane", PatientID="Doe" * 40)
    capfd.readouterr(), caplog.clear(), recwarn.clear()
    assert read_header(path).study == "Doe^Jane"
    assert "Doe" not in str(capfd.readouterr()) + caplog.text
    assert not recwarn.list


def test_header_fallbacks(tmp_path: Path, write_dicom: Write):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "R-10226", "SRT"
    path = write_dicom(
        tmp_path / "a",
        StudyInstanceUID="1.2.3",
        PatientID=None,
        ViewPosition=None,
        ViewCodeSequence=[code],
        ImageLaterality=None,
        Laterality="R",
        Manufacturer=None,
    )
    header = read_header(path)
    assert header.patient == ""  # the adapter makes such a study its own patient
    assert (header.laterality, header.view, header.vendor) == ("R", "MLO", None)
    path = write_dicom(tmp_path / "b", ViewPosition=None, ImageLaterality="B")
    assert (read_header(path).laterality, read_header(path).view) == (None, None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"Modality": "MR"}, "not-a-mammogram"),
        ({"Rows": None, "PixelData": None}, "no-image"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for-processing"),
        ({"StudyInstanceUID": None}, "no-identifiers"),
    ],
)
def test_unsuitable_headers(tmp_path: Path, write_dicom: Write, fields: dict, reason: str):
    with pytest.raises(ImageError) as caught:
        read_header(write_dicom(tmp_path / "a", **fields))
    assert caught.value.reason == reason


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_png(tmp_path: Path, dtype: type, largest: int):
    stored = np.linspace(0, largest, 64).astype(dtype).reshape(8, 8)
    Image.fromarray(stored).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_pixels(tmp_path / "a.png"), stored / largest, atol=1e-6)


def test_colour_and_cut_png(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:1000])
    for name, reason in (("colour", "colour"), ("cut", "unreadable")):
        with pytest.raises(ImageError) as caught:
            read_pixels(tmp_path / f"{name}.png")
        assert caught.value.reason == reason


def _transcode(path: Path, syntax: int) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
