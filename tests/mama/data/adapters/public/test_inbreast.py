"""INbreast: patients in file names, blanks in ACR, outlines, follow-ups and reports."""

import plistlib

import pytest

from mama.data.adapters.public.inbreast import read
from mama.data.adapters.raw import RawBox
from mama.data.studies import Labels
from mama.errors import DataError

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"


@pytest.fixture
def source(tmp_path, write_table, touch):
    write_table(
        "INbreast.csv",
        HEADER,
        "removed;removed;R;CC;201001;22678622;4;1",
        "removed;removed;L;CC;201001;22678646;4;4a",
        "removed;removed;L;MLO;201001;22678647;4;4a",
        "removed;removed;R;MLO;201103;22678670;4;2",
        f"removed;removed;L;CC;201001;53582540;{' ' * 190};6",
        "removed;removed;L;CC;201001;99999999;1;1",
        ";;;;;;;",
        "legend: anonymised;;;;;;;",
    )
    touch(
        "AllDICOMs/22678622_61b13c59bcba149e_MG_R_CC_ANON.dcm",
        "AllDICOMs/22678646_61b13c59bcba149e_MG_L_CC_ANON.dcm",
        "AllDICOMs/22678647_61b13c59bcba149e_MG_L_ML_ANON.dcm",
        "AllDICOMs/22678670_61b13c59bcba149e_MG_R_ML_ANON.dcm",
        "AllDICOMs/53582540_ab00000000000000_MG_L_CC_ANON.dcm",
    )
    regions = [
        {"Name": "Mass", "Point_px": ["(10.5, 20)", "(30, 5)", "(12, 44.25)"]},
        {"Name": "Calcification", "Point_px": ["(7, 8)"]},
        {"Name": "Pectoral Muscle", "Point_px": ["(0, 0)", "(9, 9)"]},
    ]
    xml = tmp_path / "AllXML"
    xml.mkdir()
    (xml / "22678646.xml").write_bytes(plistlib.dumps({"Images": [{"ROIs": regions}]}))
    (xml / "53582540.xml").write_bytes(b"<plist>broken")
    return tmp_path


def test_exams_labels_and_boxes(source, by_name, codes) -> None:
    dataset = read(source)
    studies = by_name(dataset)
    first = studies["61b13c59bcba149e_201001"]
    follow_up = studies["61b13c59bcba149e_201103"]
    assert first.patient == follow_up.patient == "61b13c59bcba149e"
    assert [(i.laterality, i.view) for i in first.images] == [
        ("R", "CC"),
        ("L", "CC"),
        ("L", "MLO"),
    ]
    assert follow_up.images[0].view == "MLO"  # ML in the file name
    assert first.labels == Labels(
        density="D",
        birads={"L": "4A", "R": "1"},
        suspicious={"L": True, "R": False},
        findings={"L": ("calcification", "mass"), "R": ()},
    )
    assert first.images[1].boxes == (RawBox(10.5, 5, 30, 44.25, "mass"),)
    assert "BI-RADS 4A" in str(first.report)
    other = studies["ab00000000000000_201001"]
    assert (other.labels.density, other.labels.birads) == (None, {"L": "6"})
    assert codes(dataset) == {
        "row-without-image": "INbreast.csv line 7",
        "box-invalid": "AllXML/53582540.xml",
    }


def test_reports(source, write_table, by_name, codes) -> None:
    write_table("MedicalReports/22678646.txt", "Mama direita normal.", encoding="cp1252")
    write_table("MedicalReports/ab00000000000000.txt", "Nódulo à esquerda.", encoding="cp1252")
    write_table("MedicalReports/61b13c59bcba149e.txt", "De qual exame?")
    write_table("MedicalReports/other.txt", "Ninguém.")
    dataset = read(source)
    studies = by_name(dataset)
    assert studies["61b13c59bcba149e_201001"].report == "Mama direita normal."
    assert studies["ab00000000000000_201001"].report == "Nódulo à esquerda."
    assert codes(dataset)["report-unreadable"] == "MedicalReports/61b13c59bcba149e.txt"
    assert codes(dataset)["report-without-study"] == "MedicalReports/other.txt"


def test_unknown_codes(source, write_table) -> None:
    write_table("INbreast.csv", HEADER, "removed;removed;R;CC;201001;22678622;5;4d")
    with pytest.raises(DataError, match=r"2 errors: line 2, column 'ACR'.*column 'Bi-Rads'"):
        read(source)
