"""CDD-CESM: low-energy images only, joined findings, and reports in a zip archive."""

import zipfile

import pytest

from mama.data.adapters.public.cdd_cesm import findings, pathology, read, worst
from mama.data.studies import Labels
from mama.errors import DataError

COLUMNS = [
    "Image_name", "Patient_ID", "Side", "Type", "Age", "Breast density (ACR)", "BIRADS", "Findings",
    "View", "Tags", "Machine", "Pathology Classification/ Follow up",
]  # fmt: skip
TABLE = "Radiology-manual-annotations.xlsx"


def docx(*paragraphs: str) -> bytes:
    import io

    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("word/document.xml", f'<w:d xmlns:w="{name}">{body}</w:d>')
    return buffer.getvalue()


def row(name, patient, side, kind, acr, birads, found, view, result) -> list:
    return [name, patient, side, kind, 50, acr, birads, found, view, "", "GE", result]


@pytest.fixture
def source(tmp_path, write_table, touch):
    write_table(
        TABLE,
        COLUMNS,
        row("P1_L_DM_MLO ", 1, "L", "DM", "C", "3$2", "Mass$calcifications", "MLO", "Benign"),
        row("P1_L_CM_MLO", 1, "L", "CESM", "C", "5$2", "Mass", "MLO", "Benign"),
        row("P1_R_DM_CC", 1, "R", "DM", "C", 1, "Normal", "CC", "Normal"),
        row(
            "P2_R_DM_CC", 2, "R", "DM", "B", "2$4$5", "x$Global asymmetry", "CC", "Malignant$Benign"
        ),
        row("P3_R_DM_CC", 3, "R", "DM", "B", 2, "", "CC", "Benign"),
        sheet="all",
    )
    low, subtracted = "Low energy images of CDD-CESM", "Subtracted images of CDD-CESM"
    touch(f"{low}/P1_L_DM_MLO.jpg", f"{low}/P1_R_DM_CC.jpg", f"{low}/P2_R_DM_CC.jpg")
    touch(f"{subtracted}/P1_L_CM_MLO.jpg")
    with zipfile.ZipFile(tmp_path / "Medical reports for cases.zip", "w") as archive:
        archive.writestr("Medical reports/P1.docx", docx("ACR C.", "", "Left mass &amp; nodes."))
        archive.writestr("Medical reports/P9.docx", docx("Nobody's."))
        archive.writestr("Medical reports/P2.docx", b"PK\x03\x04broken")
    return tmp_path


def test_studies_labels_and_reports(source, by_name, codes) -> None:
    dataset = read(source)
    studies = by_name(dataset)
    first, second = studies["1"], studies["2"]
    assert [(i.id, i.laterality, i.view) for i in first.images] == [
        ("P1_L_DM_MLO", "L", "MLO"), ("P1_R_DM_CC", "R", "CC"),
    ]  # fmt: skip
    assert first.labels == Labels(
        density="C",
        birads={"L": "3", "R": "1"},
        suspicious={"L": False, "R": False},
        cancer={"L": False, "R": False},
        findings={"L": ("calcification", "mass"), "R": ()},
    )
    assert first.report == "ACR C.\nLeft mass & nodes."
    assert second.labels.birads == {"R": "5"}
    assert second.labels.cancer == {"R": True}
    assert second.labels.findings == {"R": ("global_asymmetry",)}
    assert "BI-RADS 5" in str(second.report)  # its own report cannot be read
    found = codes(dataset)
    assert found["region-images"] == f"{TABLE} line 3"
    assert found["row-without-image"] == f"{TABLE} line 6"
    assert found["report-unreadable"] == "Medical reports for cases.zip/Medical reports/P2.docx"
    assert found["report-without-study"] == "Medical reports for cases.zip/Medical reports/P9.docx"
    assert "image-without-row" not in found


def test_unpacked_reports_and_no_zip(source, by_name, codes) -> None:
    (source / "Medical reports for cases.zip").write_bytes(b"half a download")
    (source / "Medical reports").mkdir()
    (source / "Medical reports" / "P2.docx").write_bytes(docx("Right cancer."))
    dataset = read(source)
    assert by_name(dataset)["2"].report == "Right cancer."
    assert codes(dataset)["report-unreadable"] == "Medical reports for cases.zip"


def test_joined_codes(source, write_table) -> None:
    assert [worst(text) for text in ("2$2", "3$2", " 4 $ 6", "0$2", "")] == [
        "2",
        "3",
        "6",
        "0",
        None,
    ]
    assert [pathology(text) for text in ("Normal", "Benign$Malignant", "")] == [False, True, None]
    assert findings("nothing") == []
    write_table(TABLE, COLUMNS, row("a", 1, "L", "DM", "E", "2$7", "", "CC", "bad"), sheet="all")
    with pytest.raises(DataError, match=r"3 errors: line 2, column 'BIRADS'"):
        read(source)
    write_table(TABLE, COLUMNS, sheet="other")
    with pytest.raises(DataError, match="no sheet 'all'"):
        read(source)
