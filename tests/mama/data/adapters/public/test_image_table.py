"""Any folder of images: columns, patterns of paths, own codes, constants, boxes, mistakes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mama.data.adapters import find
from mama.data.adapters.public.image_table import findings, read
from mama.data.adapters.raw import RawBox
from mama.data.ingest.run import ingest
from mama.data.manifest import Dataset
from mama.data.studies import Labels
from mama.data.tables.codes import CodeError
from mama.errors import ConfigError, DataError


def describe(folder, text: str) -> None:
    (folder / "image_table.yaml").write_text(text)


def test_a_table_with_own_columns_and_codes(tmp_path, write_table, touch, by_name, codes) -> None:
    describe(
        tmp_path,
        """
table: data/labels.csv
columns: {file: Filename, patient: Woman, laterality: Side, density: ACR, findings: Lesion,
          cancer: Malignant, birads: Score, split: Part, report: Text}
values: {findings: {M: mass, C: calcification, N: normal}, birads: {"9": "0"}}
constants: {view: MLO, vendor: Maker}
share_weights: false
""",
    )
    write_table(
        "data/labels.csv",
        "Filename;Woman;Side;ACR;Lesion;Malignant;Score;Part;Text;x0;y0;x1;y1;Remark",
        "a.png;1.0;left;3;M;1;4;Training;Left mass.;1;2;30;40;",
        "a.png;1.0;left;3;C;0;2;Training;;5;6;7;8;",
        "b;1;R;2;N;0;9;Training;;;;;;",
        "none.png;2;R;2;N;0;9;test;;;;;;",
    )
    touch("images/a.png", "images/b.jpg", "images/c.jpg")
    dataset = read(tmp_path)
    study = by_name(dataset)["1"]
    assert not dataset.share_weights
    assert (study.patient, study.split, study.report) == ("1", "train", "Left mass.")
    assert study.labels == Labels(
        density="C",
        birads={"L": "4", "R": "0"},
        suspicious={"L": True},
        cancer={"L": True, "R": False},
        findings={"L": ("calcification", "mass"), "R": ()},
    )
    first, second = study.images
    assert (first.id, first.laterality, first.view, first.vendor) == (
        "images/a.png", "L", "MLO", "Maker",
    )  # fmt: skip
    assert first.boxes == (RawBox(1, 2, 30, 40, "mass"), RawBox(5, 6, 7, 8, "calcification"))
    assert second.boxes == ()
    assert codes(dataset) == {
        "row-without-image": "labels.csv line 5",
        "image-without-row": "images/c.jpg",
    }


def test_paths_alone(tmp_path, touch, by_name) -> None:
    """As KAU-BCMD: BI-RADS is the folder, views are in the names."""
    describe(
        tmp_path,
        r"""
pattern: 'Birad(?P<birads>\d)/(?P<patient>[^/]+)/[^/]*_(?P<laterality>[LR])_(?P<view>[A-Z]+)\.jpg'
""",
    )
    touch("Birad4/c7/c7_L_CC.jpg", "Birad4/c7/c7_L_MLO.jpg", "Birad1/c8/c8_R_CC.jpg")
    studies = by_name(read(tmp_path))
    assert studies["c7"].labels == Labels(birads={"L": "4"}, suspicious={"L": True})
    assert [image.view for image in studies["c7"].images] == ["CC", "MLO"]
    assert "BI-RADS 1" in str(studies["c8"].report)


def test_studies_within_patients(tmp_path, write_table, touch) -> None:
    describe(tmp_path, "table: t.csv\nconstants: {laterality: L}")
    touch("a.dcm", "b.dcm", "c.dcm")
    write_table("t.csv", "file,patient,study", "a.dcm,p,1", "b.dcm,p,2", "c.dcm,q,1")
    dataset = read(tmp_path)
    assert [(study.patient, study.study) for study in dataset.studies] == [
        ("p", "p/1"), ("p", "p/2"), ("q", "q/1"),
    ]  # fmt: skip


def test_mistakes(tmp_path, write_table, touch) -> None:
    with pytest.raises(ConfigError, match=r"image_table.yaml: no such file"):
        read(tmp_path)
    describe(tmp_path, "table: t.csv\ncolums: {}")
    with pytest.raises(ConfigError, match="colums"):
        read(tmp_path)
    describe(tmp_path, "pattern: '(?P<side>x)'")
    with pytest.raises(ConfigError, match="unknown group side"):
        read(tmp_path)
    describe(tmp_path, "pattern: '(x'")
    with pytest.raises(ConfigError, match="not a regular expression"):
        read(tmp_path)
    describe(tmp_path, "table: t.csv\ncolumns: {birads: Score}")
    touch("a.png", "b.png")
    write_table(
        "t.csv",
        "file,patient,laterality,Score,x0,y0,x1,y1",
        "a.png,,L,4,,,,",
        "a.png,p,L,8,5,1,5,9",
        "b.png,p,,4,,,,",
    )
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    for part in (
        "4 errors: line 2: neither patient nor study",
        "line 3, column 'Score': unknown value",
        "line 3, column 'x0': unknown value (Use one of a box with an area",
        "line 4: labels of a breast without its laterality",
    ):
        assert part in str(caught.value)


def test_findings() -> None:
    assert [finding.kind for finding in findings("Mass + focal asymmetry") or ()] == [
        "mass", "focal_asymmetry",
    ]  # fmt: skip
    assert findings("normal") == []
    assert findings("") is None
    with pytest.raises(CodeError):
        findings("lump")


def test_from_pictures_to_a_dataset(tmp_path, write_table, picture) -> None:
    source = tmp_path / "source"
    source.mkdir()
    describe(source, "table: t.csv\nconstants: {view: CC}\ncolumns: {laterality: side}")
    small = (picture >> 4).astype(np.uint8)
    Image.fromarray(small).save(source / "a.png")
    Image.fromarray(small).save(source / "b.jpg")
    Image.fromarray(picture).save(source / "c.tif")
    rows = ["a,p,L,C,4A", "b.jpg,p,R,C,1", "c.tif,q,L,B,2"]
    write_table("source/t.csv", "file,patient,side,density,birads", *rows)
    report = ingest(source, tmp_path / "out", adapter="image_table", secret=b"k", long_side=64)
    assert (report.studies, report.images, report.skipped) == (2, 3, [])
    labels = {s.labels.density: s.labels for s in Dataset(tmp_path / "out").manifest.studies}
    assert labels["C"].birads == {"L": "4A", "R": "1"}
    assert labels["B"].suspicious == {"L": False}
    assert report.without_report == 0


@pytest.mark.parametrize(
    ("column", "cell", "match"),
    [
        ("patient", "P{woman}_{side}_CC", "names side and view"),
        ("patient", "{number}a", "one image each"),
        ("patient", "anonymous", "no PatientID"),
        ("study", "{number}a", None),
    ],
)
def test_ids_that_are_no_patients(tmp_path, write_table, touch, column, cell, match) -> None:
    describe(tmp_path, f"table: t.csv\ncolumns: {{file: f, {column}: p, laterality: s}}\n")
    rows = []
    for number in range(12):
        side = "LR"[number % 2]
        rows.append(
            f"{number}.png,{cell.format(number=number, woman=number // 2, side=side)},{side}"
        )
    write_table("t.csv", "f,p,s", *rows)
    touch(*(f"{number}.png" for number in range(12)))
    if match is None:
        assert len(read(tmp_path).studies) == 12
        return
    with pytest.raises(DataError, match=match) as caught:
        read(tmp_path)
    assert "image_table.yaml: patient" in str(caught.value)


def test_linked_folders_are_entered_and_locked_ones_named(
    tmp_path, write_table, touch, monkeypatch
) -> None:
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    touch("source/a.png", "elsewhere/b.png", "source/locked/c.png")
    (source / "link").symlink_to(elsewhere)
    (source / "gone.png").symlink_to(tmp_path / "nowhere")
    describe(source, "pattern: '(?P<study>[^/]+)[.]png'\n")
    assert len(find("image_table")(source).studies) == 3
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr("mama.data.dicom.scan.os.scandir", scandir)
    dataset = find("image_table")(source)
    assert [study.study for study in dataset.studies] == ["a", "b"]
    assert [tuple(one) for one in dataset.skipped] == [
        ("gone.png", "read-error"),
        ("locked", "no-permission"),
    ]
