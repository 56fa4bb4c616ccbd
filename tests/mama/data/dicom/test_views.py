"""Laterality and view, from every field that states them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from mama.data.dicom.header import Header, read_header
from mama.data.dicom.views import VIEW_CODES, VIEWS, side_of, view_of
from tests.mama.data.dicom.test_kinds import code

Write = Callable[..., Path]
NOTHING = {"ImageLaterality": None, "ViewPosition": None}


def header(tmp_path: Path, write_dicom: Write, **fields: Any) -> Header:
    return read_header(write_dicom(tmp_path / "a.dcm", **NOTHING | fields))


@pytest.mark.parametrize(("value", "view"), VIEW_CODES.items())
def test_codes(tmp_path: Path, write_dicom: Write, value: str, view: str) -> None:
    assert header(tmp_path, write_dicom, ViewCodeSequence=code(value)).view == view


@pytest.mark.parametrize(
    ("text", "view", "side"),
    [
        ("MLO", "MLO", None),
        ("mlo", "MLO", None),
        ("L-MLO", "MLO", "L"),
        ("RMLO", "MLO", "R"),
        ("R CC", "CC", "R"),
        ("LCC", "CC", "L"),
        ("CCID", "CC", None),
        ("MLO_ID", "MLO", None),
        ("MCC", "CC", None),
        ("RMMLO", "MLO", "R"),
        ("LSCC", "CC", "L"),
        ("MLM", "ML", None),
        ("CCRL", "CC", None),
        ("Sat", None, None),
        ("LAT", None, None),
        ("R LAT", None, "R"),
        ("l'aisselle droite", None, "R"),
        ("Mamma links", None, "L"),
        ("XCCL", "XCCL", None),
        ("RXCCL", "XCCL", "R"),
        ("LMO", "LMO", None),
        ("LM", "LM", None),
        ("L LM", "LM", "L"),
        ("ML", "ML", None),
        ("cranio-caudal", "CC", None),
        ("medio-lateral oblique", "MLO", None),
        ("Mediolateral oblique left", "MLO", "L"),
        ("latero-medial", "LM", None),
        ("LEFT CC", "CC", "L"),
        ("right breast", None, "R"),
        ("left and right", None, None),
        ("", None, None),
        ("routine screening", None, None),
        ("ACCESSORY", None, None),
    ],
)
def test_spellings(text: str, view: str | None, side: str | None) -> None:
    assert (view_of(text), side_of(text)) == (view, side)


@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    assert view_of(text) in (*VIEWS, None)
    assert side_of(text) in ("L", "R", None)


@pytest.mark.parametrize(
    ("fields", "side", "view"),
    [
        ({"ImageLaterality": "L"}, "L", None),
        ({"Laterality": "R"}, "R", None),
        ({"ImageLaterality": "LEFT"}, "L", None),
        ({"ImageLaterality": "r"}, "R", None),
        ({"ImageLaterality": "B"}, None, None),
        ({"ViewPosition": "L-MLO"}, "L", "MLO"),
        ({"SeriesDescription": "R MLO"}, "R", "MLO"),
        ({"ProtocolName": "LEFT CC"}, "L", "CC"),
        ({"PatientOrientation": ["P", "FL"]}, "R", None),
        ({"PatientOrientation": ["A", "R"]}, "L", None),
        ({"PatientOrientation": "MLO"}, None, "MLO"),
        ({"Laterality": "L", "PatientOrientation": "CC"}, "L", "CC"),
    ],
)
def test_sources(
    tmp_path: Path, write_dicom: Write, fields: dict[str, Any], side: str | None, view: str | None
) -> None:
    found = header(tmp_path, write_dicom, **fields)
    assert (found.laterality, found.view, found.remarks) == (side, view, ())


def test_the_side_of_an_enhanced_object(tmp_path: Path, write_dicom: Write) -> None:
    anatomy, shared = Dataset(), Dataset()
    anatomy.FrameLaterality = "R"
    shared.FrameAnatomySequence = [anatomy]
    found = header(tmp_path, write_dicom, SharedFunctionalGroupsSequence=[shared])
    assert found.laterality == "R"


@pytest.mark.parametrize(
    ("fields", "conflicts"),
    [
        ({"ImageLaterality": "R", "Laterality": "L"}, ("side-conflict",)),
        ({"ImageLaterality": "L", "ViewPosition": "RCC"}, ("side-conflict",)),
        ({"ImageLaterality": "L", "Laterality": "B"}, ()),
        ({"ViewPosition": "MLO", "ViewCodeSequence": code("R-10242")}, ("view-conflict",)),
        ({"ViewPosition": "CC", "ViewCodeSequence": code("R-1024A")}, ()),
        ({"ImageLaterality": "L", "ViewPosition": "CC", "BurnedInAnnotation": "YES"},
         ("burned-in",)),
    ],
)  # fmt: skip
def test_conflicts(
    tmp_path: Path, write_dicom: Write, fields: dict[str, Any], conflicts: tuple[str, ...]
) -> None:
    assert header(tmp_path, write_dicom, **fields).remarks == conflicts


def test_the_code_comes_before_the_text(tmp_path: Path, write_dicom: Write) -> None:
    fields = {"ViewPosition": "MLO", "ViewCodeSequence": code("R-10242")}
    assert header(tmp_path, write_dicom, **fields).view == "CC"


@pytest.mark.parametrize(
    ("side", "orientation", "flipped"),
    [
        ("L", ["A", "F"], False),
        ("L", ["P", "F"], True),
        ("L", ["P", "FR"], True),
        ("L", ["P", "FL"], False),  # a right breast, called left
        ("R", ["A", "L"], True),
        ("R", ["P", "L"], False),
        ("L", "MLO", False),
    ],
)
def test_an_image_stored_mirrored(
    tmp_path: Path, write_dicom: Write, side: str, orientation: Any, flipped: bool
) -> None:
    fields = {"ImageLaterality": side, "PatientOrientation": orientation}
    assert header(tmp_path, write_dicom, **fields).flipped is flipped
