"""RSNA: floats, empty columns of one site, rare views, implants, converted images."""

import pytest

from mama.data.adapters.public.rsna import read
from mama.data.studies import Labels
from mama.errors import DataError

HEADER = "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density,machine_id,difficult_negative_case"  # noqa: E501


@pytest.fixture
def source(tmp_path, write_table, touch):
    write_table(
        "train.csv",
        HEADER,
        "2,10006,462822612,L,CC,61.0,0,0,0,,0,,29,False",
        "2,10006,1459541791,L,MLO,61.0,0,0,0,,0,,29,False",
        "2,10006,1864590858,R,AT,61.0,0,0,0,,0,,29,False",
        "1,10011,220375232,L,CC,55.0,1,1,1,0.0,1,C,21,False",
        "1,10011,541722628,L,LMO,55.0,1,1,1,0.0,1,C,21,False",
        "1,10011,541722629,R,LM,55.0,0,0,0,2.0,1,B,21,True",
        "1,10025,1,R,ML,75.0,0,0,0,1.0,0,A,21,False",
    )
    touch(*(f"train_images/10006/{n}.dcm" for n in (462822612, 1459541791, 1864590858)))
    touch(*(f"train_images/10011/{n}.dcm" for n in (220375232, 541722628, 541722629)))
    touch("test_images/10008/736471439.dcm")
    write_table("test.csv", "site_id,patient_id,image_id", "2,10008,736471439")
    return tmp_path


def test_studies_and_labels(source, by_name, codes) -> None:
    dataset = read(source)
    studies = by_name(dataset)
    assert set(studies) == {"10006", "10011"}
    unrated, rated = studies["10006"], studies["10011"]
    assert unrated.labels == Labels(cancer={"L": False, "R": False})
    assert unrated.report is None
    assert rated.labels == Labels(
        density="C",
        birads={"L": "0", "R": "2"},
        suspicious={"R": False},
        cancer={"L": True, "R": False},
    )
    assert "BI-RADS 0" in str(rated.report)
    views = {image.id: (image.laterality, image.view, image.flags) for image in rated.images}
    assert views == {
        "220375232": ("L", "CC", ("implant",)),
        "541722628": ("L", "LMO", ("implant",)),
        "541722629": ("R", "LM", ("implant",)),
    }
    assert {image.view for image in unrated.images} == {"CC", "MLO", "AT"}
    assert codes(dataset) == {"row-without-image": "train.csv line 8"}
    assert {study.split for study in dataset.studies} == {None}


def test_converted_images_and_mistakes(tmp_path, write_table, touch) -> None:
    write_table("train.csv", HEADER, "1,7.0,8,L,CC,55.0,1,1,1,0.0,0,C,21,False")
    touch("png/7_8.png")
    assert [image.id for image in read(tmp_path).studies[0].images] == ["8"]
    write_table("train.csv", HEADER, "1,7,8,L,CC,55.0,2,1,1,7.0,0,C,21,False")
    with pytest.raises(DataError, match=r"2 errors: line 2, column 'BIRADS'.*column 'cancer'"):
        read(tmp_path)
    write_table("train.csv", "patient_id,image_id", "7,8")
    with pytest.raises(DataError, match="column 'laterality' is missing"):
        read(tmp_path)
