"""VinDr-Mammo: codes, boxes, several findings a row, two views of a side, missing images."""

import pytest

from mama.data.adapters.public.vindr import categories, read
from mama.data.adapters.raw import RawBox
from mama.data.studies import Labels
from mama.data.tables.codes import CodeError
from mama.errors import DataError

BREASTS = "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split"  # noqa: E501
FINDINGS = "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"  # noqa: E501


@pytest.fixture
def source(tmp_path, write_table, touch):
    rows = [
        "st1,se,i1,L,CC,3518,2800,BI-RADS 4,DENSITY C,training",
        "st1,se,i2,L,MLO,3518,2800,BI-RADS 4,DENSITY C,training",
        "st1,se,i3,R,CC,3518,2800,BI-RADS 1,DENSITY B,training",
        "st1,se,i4,R,MLO,3518,2800,BI-RADS 1,DENSITY B,training",
        "st2,se,i5,L,CC,3518,2800,BI-RADS 5,DENSITY D,test",
        "st2,se,i6,L,CC,3518,2800,BI-RADS 5,DENSITY D,test",
        "st2,se,i7,R,MLO,3518,2800,BI-RADS 2,DENSITY D,test",
        "st3,se,i8,R,MLO,3518,2800,BI-RADS 2,DENSITY A,test",
    ]
    findings = [
        "st1,se,i1,L,CC,3518,2800,BI-RADS 4,DENSITY C,\"['Mass', 'Suspicious Calcification']\","
        "BI-RADS 4,2355.1399,1731.64,2482.9799,1852.75,training",
        "st1,se,i1,L,CC,3518,2800,BI-RADS 4,DENSITY C,['Mass'],BI-RADS 4,10,20,30,40,training",
        "st1,se,i2,L,MLO,3518,2800,BI-RADS 4,DENSITY C,['Skin Thickening'],,,,,,training",
        "st1,se,i3,R,CC,3518,2800,BI-RADS 1,DENSITY B,['No Finding'],,,,,,training",
    ]
    write_table("breast-level_annotations.csv", BREASTS, *rows)
    write_table("finding_annotations.csv", FINDINGS, *findings)
    touch(*(f"images/st1/i{n}.dicom" for n in range(1, 5)))
    touch(*(f"images/st2/i{n}.dicom" for n in range(5, 8)), "images/st2/stray.dicom")
    return tmp_path


def test_studies_labels_and_boxes(source, by_name, codes) -> None:
    dataset = read(source)
    studies = by_name(dataset)
    assert set(studies) == {"st1", "st2"}
    first = studies["st1"]
    assert (first.patient, first.split, studies["st2"].split) == ("st1", "train", "test")
    assert [(i.id, i.laterality, i.view) for i in first.images] == [
        ("i1", "L", "CC"), ("i2", "L", "MLO"), ("i3", "R", "CC"), ("i4", "R", "MLO"),
    ]  # fmt: skip
    assert first.labels == Labels(
        density="C",
        birads={"L": "4", "R": "1"},
        suspicious={"L": True, "R": False},
        findings={"L": ("calcification", "mass", "skin_thickening"), "R": ()},
    )
    assert first.images[0].boxes == (
        RawBox(2355.1399, 1731.64, 2482.9799, 1852.75, "mass+calcification"),
        RawBox(10, 20, 30, 40, "mass"),
    )
    assert first.images[1].boxes == ()
    assert [image.view for image in studies["st2"].images] == ["CC", "CC", "MLO"]
    assert "suspicious calcifications" in str(first.report)
    assert codes(dataset) == {
        "box-invalid": "finding_annotations.csv line 4",
        "row-without-image": "breast-level_annotations.csv line 9",
        "image-without-row": "images/st2/stray.dicom",
    }
    assert dataset.share_weights


def test_without_findings(source) -> None:
    (source / "finding_annotations.csv").unlink()
    labels = read(source).studies[0].labels
    assert (labels.findings, labels.birads) == (None, {"L": "4", "R": "1"})


def test_mistakes(source, write_table) -> None:
    rows = ["st1,se,i1,LEFT?,CC,1,1,BI-RADS 7,DENSITY C,training", "st1,se,i2,L,CC,1,1,,,later"]
    write_table("breast-level_annotations.csv", BREASTS, *rows)
    with pytest.raises(
        DataError, match=r"3 errors: line 2, column 'breast_birads'.*column 'split'"
    ):
        read(source)
    with pytest.raises(CodeError):
        categories("['Mass'")
    with pytest.raises(CodeError):
        categories("__import__('os')")
    (source / "breast-level_annotations.csv").unlink()
    with pytest.raises(DataError, match=r"breast-level_annotations.csv is missing"):
        read(source)
