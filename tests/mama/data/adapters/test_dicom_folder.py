"""A hospital's folder: images grouped by study, reports joined, and invalid tables."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.data.adapters import find
from mama.data.adapters.dicom_folder import read
from mama.data.studies import Labels
from mama.errors import ConfigError, DataError

Write = Callable[..., Path]


def test_studies_with_reports_and_labels(hospital: Path):
    dataset = read(hospital)
    assert [study.study for study in dataset.studies] == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]
    study = dataset.studies[0]
    assert study.patient == "patient-0"
    assert {(image.laterality, image.view, image.vendor) for image in study.images} == {
        ("L", "CC", "Maker"),
        ("R", "CC", "Maker"),
    }
    assert study.report == "Dense, both sides. No mass."
    assert study.labels == Labels(density="C", suspicious={"L": False, "R": True})
    assert study.split is None
    assert "patient-0" not in repr(dataset)
    assert "Dense" not in repr(dataset)


def test_join_by_accession_number_and_without_a_row(hospital: Path):
    _table(hospital, "study,report,split", "acc1,Normal.,test", "elsewhere,Lost.,")
    dataset = read(hospital)
    reports = [study.report for study in dataset.studies]
    assert reports == [None, "Normal.", None, None]
    assert [study.split for study in dataset.studies] == [None, "test", None, None]
    assert dataset.studies[0].labels == Labels()
    codes = [note.code for note in dataset.notes]
    assert codes == ["report-without-study", *["study-without-report"] * 3]
    assert dataset.notes[0].where == "reports.csv line 3"
    assert dataset.notes[1].where == "dicom/0L.dcm"


def test_byte_order_mark_line_breaks_and_lower_case(hospital: Path):
    _table(hospital, "\ufeffStudy,Report,Density", '1.2.1,"Two\nlines.",b')
    study = read(hospital).studies[0]
    assert study.report == "Two\nlines."
    assert study.labels.density == "B"


SEPARATORS = (",", ";", "\t", "|")


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("quoted", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_and_what_reports_hold(
    hospital: Path, separator: str, quoted: Any, mark: str
) -> None:
    report = 'Dense, "both" sides; no mass,\tnone; none; none;\nsecond, line.'
    text = io.StringIO()
    table = csv.writer(text, delimiter=separator, quoting=quoted)
    header = ["study", "report", "density", "suspicious_left", "suspicious_right", "split"]
    table.writerows(
        [header, ["1.2.1", report, "c", "1", "", ""], ["1.2.2", "x,y;z", "", "", "", "test"]]
    )
    (hospital / "reports.csv").write_bytes((mark + text.getvalue()).encode())
    first, second, *_ = read(hospital).studies
    assert first.report == report
    assert first.labels == Labels(density="C", suspicious={"L": True})
    assert (second.report, second.split) == ("x,y;z", "test")


def test_files_of_other_kinds(hospital: Path, write_dicom: Write):
    folder = hospital / "dicom"
    (folder / "broken.dcm").write_bytes(b"nothing")
    (folder / "README").write_text("not looked at")
    (folder / "DICOMDIR").write_bytes((folder / "0L.dcm").read_bytes())
    (folder / "copy of 0L").write_bytes((folder / "0L.dcm").read_bytes())
    write_dicom(folder / "sub" / "mri", Modality="MR")
    dataset = read(hospital)
    assert {(item.file, item.reason) for item in dataset.skipped} == {
        ("dicom/broken.dcm", "unreadable"),
        ("dicom/sub/mri", "not-a-mammogram"),
    }
    (copied,) = [image for study in dataset.studies for image in study.images if image.copies]
    assert {copied.path.name, *(path.name for path in copied.copies)} == {"0L.dcm", "copy of 0L"}
    assert sum(len(study.images) for study in dataset.studies) == 8


def test_without_a_dicom_subfolder(tmp_path: Path, write_dicom: Write):
    write_dicom(tmp_path / "anywhere" / "a", StudyInstanceUID="1.2")
    _table(tmp_path, "study,report", "1.2,Normal.")
    assert [study.report for study in read(tmp_path).studies] == ["Normal."]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["study,density", "1.2.1,A"], "reports.csv, line 1: column 'report' is missing"),
        (["report", "x"], "line 1: no column says which study a row is of"),
        (["study,report,report", "1.2.1,x,y"], "line 1: column 3 is repeated"),
        (
            ["study,report,density", '1.2.1,"two\nlines",A', "1.2.2,Doe,Doe"],
            "line 4, column 'density': unknown value. Use one of A, B, C, D",
        ),
        (
            ["study,report,suspicious_left", "1.2.1,Doe,2"],
            "column 'suspicious_left'.*Use one of 0, 1",
        ),
        (["study,report,split", "1.2.1,Doe,later"], "column 'split'.*Use one of train, test"),
        (
            ["study,report", "1.2.1,Doe", "1.2.1,Doe"],
            "line 3, column 'study': duplicate row for the study of line 2",
        ),
        (
            ["study,report", "1.2.1,Doe", "acc0,Doe"],
            "line 3, column 'study': duplicate row for the study of line 2",
        ),
        (["study,report", "1.2.1,Doe, Jane"], "line 2: the row has 3 cells, the header 2 columns"),
        (["study;report", "1.2.1;Doe; Jane"], "line 2: the row has 3 cells, the header 2 columns"),
        (["study;report", "1.2.1,Doe"], "line 2: the row has 1 cells, the header 2 columns"),
        (
            ["study:report", "1.2.1:Doe"],
            "column 'report' is missing; the header is a single column. .*semicolon",
        ),
        (["study,report;density", "1.2.1,Doe;A"], "line 1: column 'report' is missing"),
        (["study,report", ",Doe"], "line 2, column 'study': empty cell"),
        ([""], "column 'report' is missing"),
    ],
)
def test_mistakes_in_the_table(hospital: Path, lines: list[str], says: str):
    _table(hospital, *lines)
    with pytest.raises(DataError, match=says) as caught:
        read(hospital)
    assert caught.value.fix
    assert "Doe" not in str(caught.value)


def test_no_table_and_no_text(hospital: Path):
    (hospital / "reports.csv").write_bytes(b"study,report\n1.2.1,\0\n")
    with pytest.raises(DataError, match="UTF-8"):
        read(hospital)
    (hospital / "reports.csv").unlink()
    with pytest.raises(DataError, match=r"reports\.csv is missing.*columns study, report"):
        read(hospital)


def test_unknown_adapter():
    with pytest.raises(ConfigError, match=r"unknown adapter 'dicom'.*dicom_folder, .*mias"):
        find("dicom")


def _table(folder: Path, *lines: str) -> None:
    (folder / "reports.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
