"""Windows and LUTs that cannot be used are passed over, and named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from mama.data.dicom.pixels import read_image

Write = Callable[..., Path]
STORED = np.arange(0, 4000, dtype=np.uint16).reshape(50, 80)
PLAIN = STORED / STORED.max()


def lut(entries: int, bits: int, data: Any, first: int = 0) -> list[Dataset]:
    item = Dataset()
    item.add_new(0x00283002, "US", [entries % 2**16, first, bits])
    item.add_new(0x00283006, "OW" if isinstance(data, bytes) else "US", data)
    return [item]


def written(path: Path, window: tuple[str, str], write_dicom: Write) -> Path:
    """Write a file whose window holds any text."""
    write_dicom(path, STORED, WindowCenter="11111111", WindowWidth="22222222")
    data = path.read_bytes()
    for old, new in zip((b"11111111", b"22222222"), window, strict=True):
        data = data.replace(old, new.encode().ljust(8))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "window",
    [
        ("2000", "0"),
        ("2000", "-5"),
        ("2,00", "300"),
        ("AUTO", "300"),
        ("20000", "10"),
        ("-900", "2"),
    ],
)
def test_an_unusable_window_is_passed_over(
    tmp_path: Path, write_dicom: Write, window: tuple[str, str]
) -> None:
    found = read_image(written(tmp_path / "a.dcm", window, write_dicom))
    np.testing.assert_allclose(found.values, PLAIN, atol=1e-6)
    assert found.remarks == ("window-ignored",)


def test_the_next_window_is_used(tmp_path: Path, write_dicom: Write) -> None:
    fields = {"WindowCenter": [90000, 2000], "WindowWidth": [10, 1000]}
    found = read_image(write_dicom(tmp_path / "a.dcm", STORED, **fields))
    expected = np.clip((STORED - 1999.5) / 999 + 0.5, 0, 1)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.remarks == ("window-ignored",)


@pytest.mark.parametrize(
    "sequence",
    [
        lut(4096, 12, [0] * 100),  # shorter than it states
        lut(4096, 5, list(range(4096))),  # of 5 bits
        lut(4096, 12, [7] * 4096),  # of one value
    ],
)
def test_an_unusable_lut_falls_back_to_the_window(
    tmp_path: Path, write_dicom: Write, sequence: list[Dataset]
) -> None:
    fields = {"VOILUTSequence": sequence, "WindowCenter": 2000, "WindowWidth": 1000}
    found = read_image(write_dicom(tmp_path / "a.dcm", STORED, **fields))
    expected = np.clip((STORED - 1999.5) / 999 + 0.5, 0, 1)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.remarks == ("lut-ignored",)


def test_a_lut_of_eight_bits_with_many_entries(tmp_path: Path, write_dicom: Write) -> None:
    curve = (255 * np.sqrt(np.arange(4096) / 4095)).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", STORED, VOILUTSequence=lut(4096, 8, curve.tobytes()))
    values = curve[STORED].astype(float)
    expected = (values - values.min()) / (values.max() - values.min())
    found = read_image(path)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.remarks == ()


ROWS, COLUMNS = np.mgrid[:80, :60]
INSIDE = 1 - ((ROWS - 40) / 34) ** 2 - (COLUMNS / 40) ** 2
DISC = np.where(INSIDE > 0, 1200 + 2000 * INSIDE, 0).astype(np.uint16)
MARKED = DISC.copy()
MARKED[2:8, 48:58] = 4095


@pytest.mark.parametrize(
    ("fields", "remark"),
    [
        ({"WindowCenter": 0.5, "WindowWidth": 1}, "window-ignored"),
        ({"WindowCenter": 1, "WindowWidth": 2}, "window-ignored"),
        ({"WindowCenter": 128, "WindowWidth": 256}, "window-ignored"),
        ({"WindowCenter": 3900, "WindowWidth": 100}, "window-ignored"),  # the marker alone
        ({"VOILUTSequence": lut(4096, 12, [0] * 4095 + [9])}, "lut-ignored"),
        ({"VOILUTSequence": lut(256, 12, list(range(256)))}, "lut-ignored"),
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "lut-ignored"),
        ({"ModalityLUTSequence": lut(4096, 12, [7] * 4096)}, "lut-ignored"),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 16383}, "padding-ignored"),
    ],
)
def test_what_hides_all_tissue_is_passed_over(
    tmp_path: Path, write_dicom: Write, fields: dict[str, Any], remark: str
) -> None:
    found = read_image(write_dicom(tmp_path / "a.dcm", MARKED, **fields))
    np.testing.assert_allclose(found.values, MARKED / 4095, atol=1e-6)
    assert found.remarks == (remark,)


@pytest.mark.parametrize("window", [(2200, 2000), (1500, 300), (3000, 400)])
def test_a_narrow_window_is_used(
    tmp_path: Path, write_dicom: Write, window: tuple[int, int]
) -> None:
    fields = {"WindowCenter": window[0], "WindowWidth": window[1]}
    found = read_image(write_dicom(tmp_path / "a.dcm", MARKED, **fields))
    center, width = window
    expected = np.clip((MARKED - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.remarks == ()


def test_a_window_on_a_picture_of_two_values_is_used(tmp_path: Path, write_dicom: Write) -> None:
    pixels = np.where(INSIDE > 0, 3000, 0).astype(np.uint16)
    fields = {"WindowCenter": 2000, "WindowWidth": 1000}
    found = read_image(write_dicom(tmp_path / "a.dcm", pixels, **fields))
    assert found.remarks == ()


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_words_of_a_lut_have_the_byte_order_of_the_file(
    tmp_path: Path, write_dicom: Write, keyword: str, bits: int
) -> None:
    curve = np.arange(4096) // (1 if bits == 12 else 16)
    data = curve.astype(">u2" if bits == 12 else np.uint8)
    if bits == 8:  # two entries a word, the first in its low byte
        data = data.view("<u2").astype(">u2")
    path = write_dicom(tmp_path / "a.dcm", MARKED)
    dataset = pydicom.dcmread(path)
    setattr(dataset, keyword, lut(4096, bits, data.tobytes()))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    dataset.PixelData = MARKED.astype(">u2").tobytes()
    saved = tmp_path / "big.dcm"
    pydicom.dcmwrite(saved, dataset, implicit_vr=False, little_endian=False)
    found = read_image(saved)
    np.testing.assert_allclose(found.values, curve[MARKED] / curve[-1], atol=1e-6)
    assert found.remarks == ()


def test_missing_decoders_are_named(
    tmp_path: Path, write_dicom: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mama.data.dicom import pixels
    from mama.data.dicom.reasons import ImageError

    path = write_dicom(tmp_path / "a.dcm", STORED)
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(path)
    assert read_image(path).values.shape == STORED.shape

    class Missing:
        is_available = False

    monkeypatch.setattr(pixels, "get_decoder", lambda syntax: Missing)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.reason == "missing-decoder"
