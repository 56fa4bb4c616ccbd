"""DMID: side and view in one word, joined findings, rows of a film, reports, masks."""

import pytest

from mama.data.adapters.public.dmid import findings, key, read, view
from mama.data.studies import Labels
from mama.data.tables.codes import CodeError
from mama.errors import DataError

COLUMNS = ["ID", "View", "Background Tissue", "Abnormality", "Pathology", "x", "y", "radius"]


@pytest.fixture
def source(tmp_path, write_table, touch):
    write_table(
        "Metadata.xlsx",
        COLUMNS,
        ["IMG 001", "CCLT ", "G", "CIRC+CALC", "B", 2000, 2800, 90],
        [None, "CCLT", "G", "SPIC", "M", 300, 300, 20],
        ["IMG002", " MLO RT", "-", "NORM", "-", None, None, None],
        ["IMG003", "MLORT", "D", "ARCH", "M", 1, 1, 1],
    )
    touch("DICOM Images/IMG001.dcm", "TIFF Images/IMG001.tif", "TIFF Images/IMG002.tif")
    touch("ROI Masks/IMG001.tif", "Pixel-level annotation/IMG002.png", "TIFF Images/IMG009.tif")
    write_table("Reports/Img001.txt", "Breast composition G. Mass in the left breast.")
    write_table("Reports/Img777.txt", "Nobody's.")
    write_table("TIFF Images/Info.txt", "not a report")
    return tmp_path


def test_films_labels_and_reports(source, by_name, codes) -> None:
    dataset = read(source)
    studies = by_name(dataset)
    first, second = studies["img001"], studies["img002"]
    assert first.images[0].path.suffix == ".dcm"
    assert (first.images[0].laterality, first.images[0].view) == ("L", "CC")
    assert first.labels == Labels(
        density="G",
        suspicious={"L": True},
        cancer={"L": True},
        findings={"L": ("calcification", "mass")},
    )
    assert first.report == "Breast composition G. Mass in the left breast."
    assert second.labels == Labels(suspicious={"R": False}, findings={"R": ()})
    assert (second.images[0].laterality, second.images[0].view) == ("R", "MLO")
    assert "right breast" in str(second.report)
    assert codes(dataset) == {
        "region-images": "ROI Masks/IMG001.tif and 1 more",
        "row-without-image": "Metadata.xlsx line 5",
        "image-without-row": "TIFF Images/IMG009.tif",
        "report-without-study": "Reports/Img777.txt",
    }


def test_codes(source, write_table) -> None:
    assert [view(text) for text in ("CCLT", "mlo rt", "RTCC", "")] == [
        ("L", "CC"), ("R", "MLO"), ("R", "CC"), None,
    ]  # fmt: skip
    assert key(" IMG 001 ") == "img001"
    assert findings("NORM") == []
    with pytest.raises(CodeError):
        view("LMXX")
    write_table("Metadata.xlsx", COLUMNS, ["IMG001", "CC", "H", "LUMP", "Q", 1, 1, 1])
    with pytest.raises(DataError, match="4 errors: line 2, column 'Abnormality'"):
        read(source)
