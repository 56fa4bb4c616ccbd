"""Remarks on a report name the values that differ, of the text and of the table."""

from mama.config.ingest import ReportsConfig
from mama.data.adapters.notes import Note
from mama.data.ingest.reports import read_text, values
from mama.data.studies import Labels


def remarks(report: str, labels: Labels) -> dict[str, str]:
    text = read_text(report, labels, ReportsConfig())
    return {code: values(code, text.read, labels) for code in text.notes}


def test_another_density_in_the_table() -> None:
    found = remarks("The breasts are extremely dense.", Labels(density="A"))
    assert found == {"report-density-table": "text D, table A"}
    assert remarks("The breasts are extremely dense.", Labels(density="D")) == {}


def test_another_assessment_in_the_table() -> None:
    found = remarks(
        "Left breast: spiculated mass, BI-RADS 5. Right breast: normal, BI-RADS 1.",
        Labels(suspicious={"L": False, "R": False}),
    )
    assert found == {
        "report-birads-table": "text BI-RADS L 5, R 1, table suspicious L no, R no",
    }


def test_other_remarks_have_no_values() -> None:
    report = "The breasts are extremely dense. The breasts are almost entirely fatty."
    assert remarks(report, Labels()) == {"report-density-disagree": ""}
    assert str(Note("no-side", "dicom/IM1")) == "dicom/IM1"
    assert str(Note("similar-picture", "dicom/IM1", "as dicom/IM2")) == "dicom/IM1: as dicom/IM2"
