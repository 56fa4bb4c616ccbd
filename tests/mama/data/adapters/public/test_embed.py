"""EMBED: findings by exam and breast, the negative breast, males, kinds of images, boxes, paths."""

import pytest

from mama.config.ingest import IngestConfig
from mama.data.adapters.public.embed import boxes, read
from mama.data.adapters.public.embed_codes import calcification, mass_density
from mama.data.adapters.raw import RawBox
from mama.data.studies import Labels
from mama.data.tables.codes import CodeError
from mama.errors import DataError

CLINICAL = "empi_anon,acc_anon,study_date_anon,desc,tissueden,asses,numfind,side,total_L_find,total_R_find,massshape,massmargin,massdens,calcfind,calcdistri,calcnumber,bside,procdate_anon,type,path1,path_severity,RACE_DESC"  # noqa: E501
METADATA = "empi_anon,acc_anon,anon_dicom_path,StudyDescription,FinalImageType,ImageLateralityFinal,ViewPosition,spot_mag,num_roi,ROI_coords,SRC_DST,match_level"  # noqa: E501
MOUNT = "/mnt/NAS2/mammo/anon_dicom"


def clinical(exam: int, cells: str) -> str:
    """A row from density to calcdistri: den,asses,numfind,side,shape,margin,dens,calc,distri."""
    desc, density, asses, side, shape, margin, dens, calc, spread, bside, severity = cells.split(
        ","
    )
    return (
        f"1{exam},{exam},2015-01-01,{desc},{density},{asses},1,{side},1,0,{shape},{margin},{dens},"
        f"{calc},{spread},,{bside},,,,{severity},White"
    )


@pytest.fixture
def source(tmp_path, write_table, touch):
    rows, names = [], []

    def image(exam, name, kind, side, view, spot="", rois="()") -> None:
        path = f"cohort_1/1{exam}/1.2.{exam}/{name}.dcm"
        rows.append(
            f'1{exam},{exam},{MOUNT}/{path},MG,{kind},{side},{view},{spot},0,"{rois}",[1],1'
        )
        names.append(path)

    image(100, "a", "2D", "L", "CC", rois="((1200, 300, 1500, 700), (10, 20, 30, 45))")
    image(100, "b", "cview", "L", "CC")
    image(100, "c", "C-View", "R", "MLO")
    image(100, "d", "2D", "L", "MLO", "1.0")
    image(100, "e", "ROI_SSC", "L", "CC")
    image(200, "f", "2D", "L", "CC")
    image(200, "g", "2D", "R", "MLO")
    image(300, "h", "2D", "L", "MLO")
    image(400, "i", "2D", "R", "CC")
    image(500, "j", "2D", "R", "XYZ")
    image(600, "k", "2D", "R", "CC")
    touch(*names[:-1])
    write_table("tables/EMBED_OpenData_metadata.csv", METADATA, *rows)
    write_table(
        "tables/EMBED_OpenData_clinical.csv",
        CLINICAL,
        clinical(100, "MG Screening Bilateral w/CAD,3.0,A,L,X,S,=,,,L,0.0"),
        clinical(100, "MG Screening Bilateral w/CAD,3.0,A,L,,,,K,C,,"),
        clinical(200, "MG Diagnostic Bilateral,2,P,,O,D,#NAME?,,,R,4"),
        clinical(200, "MG Diagnostic Bilateral,2,B,R,,,,,,,6"),
        clinical(300, "MG Diagnostic Left,5,N,L,,,,,,,"),
        clinical(400, "MG Screening Bilateral,1,X,B,,,,,,,"),
        clinical(999, "MG Screening Bilateral,1,N,B,,,,,,,"),
    )
    return tmp_path


def test_findings_join_by_exam_and_breast(source, by_name) -> None:
    dataset = read(source)
    assert not dataset.share_weights
    first = by_name(dataset)["100"]
    assert first.patient == "1100"
    # MagView has no row for the right breast of this bilateral exam, which is negative.
    assert first.labels == Labels(
        density="C",
        birads={"L": "0", "R": "1"},
        suspicious={"R": False},
        cancer={"L": True},
        findings={"L": ("calcification", "mass"), "R": ()},
    )
    text = str(first.report)
    assert "an irregular, spiculated, isodense mass" in text
    assert "clustered, pleomorphic calcifications" in text
    assert [image.id for image in first.images] == ["a", "c"]
    assert first.images[0].boxes == (
        RawBox(300, 1200, 700, 1500, "finding"),
        RawBox(20, 10, 45, 30, "finding"),
    )
    assert first.images[1].flags == ("synthetic",)


def test_a_finding_without_side_is_of_both(source, by_name) -> None:
    second = by_name(read(source))["200"]
    assert second.labels.birads == {"L": "3", "R": "3"}
    assert second.labels.findings == {"L": ("mass",), "R": ("mass",)}
    assert second.labels.cancer == {"R": False}  # bside names the biopsied breast


def test_kinds_of_images(source, by_name, codes) -> None:
    dataset = read(source)
    assert "300" not in by_name(dataset)  # a male patient
    assert by_name(dataset)["400"].labels == Labels(density="A", findings={"L": (), "R": ()})
    assert by_name(dataset)["500"].labels == Labels()  # no clinical row
    assert by_name(dataset)["500"].images[0].view is None
    found = codes(dataset)
    assert found["region-images"] == "EMBED_OpenData_metadata.csv line 6"
    assert found["row-without-image"] == "EMBED_OpenData_metadata.csv line 12"
    assert found["code-unknown"] == "EMBED_OpenData_metadata.csv line 11, column 'view' and 1 more"
    specials = [note.where for note in dataset.notes if note.code == "special-images"]
    assert specials == ["1 image: male", "1 image: spot", "1 image: synthetic beside the original"]
    kept = read(source, IngestConfig(keep=["male", "spot", "magnification"]))
    assert [image.flags for image in by_name(kept)["300"].images] == [("male",)]
    assert by_name(kept)["300"].labels.density is None
    assert {image.id for image in by_name(kept)["100"].images} == {"a", "d"}


def test_codes() -> None:
    assert boxes("()") == boxes("") == ()
    assert boxes("((5, 5, 5, 9),)") == ()
    assert [mass_density(text) for text in ("+", "=", "-", "0.0", "", "nan")] == [
        "high-density", "isodense", "low-density", "fat-containing", None, None,
    ]  # fmt: skip
    assert calcification("A,P") == ("amorphous", "punctate")
    assert calcification("G") == ()
    assert calcification("") is None
    with pytest.raises(CodeError):
        mass_density("#NAME?")


def test_unknown_codes_and_the_reduced_table(source, write_table) -> None:
    (source / "tables" / "EMBED_OpenData_clinical.csv").unlink()
    write_table(
        "EMBED_OpenData_clinical_reduced.csv",
        "acc_anon,tissueden,asses,side",
        "100,9,A,L",
        "999,1,Z,L",
    )
    with pytest.raises(
        DataError, match=r"2 errors: line 2, column 'tissueden'.*line 3, column 'as"
    ):
        read(source)
