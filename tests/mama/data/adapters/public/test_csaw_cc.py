"""CSAW-CC: exams by the last number, cancer only where it is known, masks."""

import pytest

from mama.data.adapters.public.csaw_cc import read
from mama.data.studies import Labels
from mama.errors import DataError

HEADER = "anon_patientid,anon_filename,imagelaterality,viewposition,x_age,x_case,x_type,x_cancer_laterality,x_lymphnode_met,rad_timing,rad_r1,rad_r2,rad_recall,libra_percentdensity"  # noqa: E501


def row(patient, side, view, number, case, cancer="", timing="") -> str:
    name = f"{patient}_20990909_{side[0]}_{view}_{number}.dcm"
    return f"{patient},{name},{side},{view},55,{case},1,{cancer},0,{timing},0,0,0,21.5"


@pytest.fixture
def source(tmp_path, write_table, touch):
    rows = [
        row("00007", "Left", "CC", 1, 1, "Left", "3.0"),
        row("00007", "Left", "CC", 2, 1, "Left", "1.0"),
        row("00007", "Right", "MLO", 2, 1, "Left", "1.0"),
        row("00008", "Right", "CC", 1, 0),
        row("00009", "Right", "CC", 1, 0),
    ]
    write_table("notes.csv", "a,b", "1,2")
    write_table("CSAW-CC_breast_cancer_screening_data.csv", HEADER, *rows)
    names = [line.split(",")[1] for line in rows[:-1]]
    touch(*names, "00007_20990909_L_CC_2_mask.png")
    return tmp_path


def test_exams_and_cancer(source, by_name, codes) -> None:
    dataset = read(source)
    studies = by_name(dataset)
    assert set(studies) == {"00007_1", "00007_2", "00008_1"}
    assert studies["00007_1"].patient == studies["00007_2"].patient == "00007"
    assert studies["00007_1"].labels == Labels()  # years before the diagnosis
    assert studies["00007_2"].labels == Labels(cancer={"L": True, "R": False})
    assert studies["00008_1"].labels == Labels(cancer={"L": False, "R": False})
    assert [(i.laterality, i.view) for i in studies["00007_2"].images] == [
        ("L", "CC"),
        ("R", "MLO"),
    ]
    assert {study.report for study in dataset.studies} == {None}
    assert codes(dataset) == {
        "row-without-image": "CSAW-CC_breast_cancer_screening_data.csv line 6"
    }


def test_mistakes(source, write_table) -> None:
    bad = row("00007", "Left", "CC", 1, 2, "Left", "4")
    write_table("CSAW-CC_breast_cancer_screening_data.csv", HEADER, bad)
    with pytest.raises(DataError, match=r"2 errors: line 2, column 'rad_timing'.*'x_case'"):
        read(source)
    (source / "CSAW-CC_breast_cancer_screening_data.csv").unlink()
    with pytest.raises(DataError, match="no table with the column anon_filename"):
        read(source)
