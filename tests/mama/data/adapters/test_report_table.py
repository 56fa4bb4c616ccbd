"""Reports and labels of studies: keys, ambiguity, addenda, rows of one breast, and remarks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.config.ingest import IdentityConfig, IngestConfig, ReportsConfig
from mama.data.adapters.joining import Exam, Joiner, Keys
from mama.data.adapters.notes import NOTES, Note
from mama.data.adapters.raw import Part
from mama.data.adapters.report_table import ReportTable, find_table
from mama.data.studies import Labels
from mama.errors import ConfigError, DataError

EXAMS = [
    Exam("1.2.1", frozenset(["00101"]), "P1", "20210403", "dicom/a"),
    Exam("1.2.2", frozenset(["B102"]), "P2", "20210403", "dicom/b"),
    Exam("1.2.3", frozenset(["0"]), "P3", "20210403", "dicom/c"),
    Exam("1.2.4", frozenset(["0"]), "P4", "20210404", "dicom/d"),
    Exam("1.2.5", frozenset(), "P4", "20210404", "dicom/e"),
]


def settings(addenda: str = "refuse", identity: IdentityConfig | None = None, **columns: str):
    reports = ReportsConfig(addenda=addenda, columns=columns)
    return IngestConfig(reports=reports, identity=identity or IdentityConfig())


def run(folder: Path, *lines: str, config: IngestConfig | None = None, exams=EXAMS):
    (folder / "reports.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    entries, notes = ReportTable(folder, config or settings()).join(exams)
    assert all(note.code in NOTES for note in notes)
    reports = {study: entry.report for study, entry in entries.items()}
    return reports, [note for note in notes if note.code != "study-without-report"]


def test_keys(tmp_path: Path) -> None:
    assert run(tmp_path, "study,report", "1.2.1,a", "B102,b") == ({"1.2.1": "a", "1.2.2": "b"}, [])
    assert run(tmp_path, "accession,report", "B102,b") == ({"1.2.2": "b"}, [])
    lines = ("patient,date,report", "P1,2021-04-03,a", "P2,03.04.2021,b")
    assert run(tmp_path, *lines) == ({"1.2.1": "a", "1.2.2": "b"}, [])
    columns = {"accession": "AccessionNumber", "report": "ReportText"}
    assert run(tmp_path, "AccessionNumber;ReportText", "B102;b", config=settings(**columns)) == (
        {"1.2.2": "b"},
        [],
    )


def test_studies_without_a_row_are_named_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("study,report\n1.2.1,x\n")
    _, notes = ReportTable(tmp_path).join(EXAMS)
    assert notes == [Note("study-without-report", f"dicom/{name}") for name in "bcde"]


@pytest.mark.parametrize(
    "lines",
    [
        ("accession,report", "0,spiculated"),  # one accession, two patients
        ("study,report", "0,spiculated"),
        ("patient,date,report", "P4,20210404,spiculated"),  # one visit, two studies
    ],
)
def test_an_ambiguous_key_gives_its_report_to_nobody(tmp_path: Path, lines: tuple) -> None:
    assert run(tmp_path, *lines) == ({}, [Note("report-key-ambiguous", "reports.csv line 2")])


@pytest.mark.parametrize(
    "lines",
    [
        ("study,accession,report", "1.2.1,B102,spiculated"),  # two keys, two studies
        ("study,accession,report", "1.2.5,B102,spiculated"),  # 1.2.5 has no accession number
        ("study,accession,report", "1.2.99,B102,spiculated"),  # an exam that was not exported
        ("accession,patient,report", "B102,P1,spiculated"),
        ("accession,patient,report", "B102,P9,spiculated"),
        ("study,patient,report", "1.2.2,P9,spiculated"),
        ("accession,patient,date,report", "B102,P9,20200101,spiculated"),
        ("accession,date,report", "B102,20200101,spiculated"),
        ("accession,patient,date,report", "B999,P2,20210403,spiculated"),
    ],
)
def test_keys_that_contradict_each_other_give_a_report_to_nobody(
    tmp_path: Path, lines: tuple
) -> None:
    assert run(tmp_path, *lines) == ({}, [Note("report-key-contradiction", "reports.csv line 2")])


def test_keys_that_a_study_lacks_do_not_contradict_it(tmp_path: Path) -> None:
    lines = ("study,accession,patient,report", "1.2.5,C7,P4,a", "1.2.2,B102,,b")
    assert run(tmp_path, *lines) == ({"1.2.5": "a", "1.2.2": "b"}, [])
    exams = [Exam("1.2.6", frozenset(["D8"]), "P6", uids=frozenset(["1.2.6", "1.2.7"]))]
    lines = ("study,accession,patient,date,report", "1.2.7,D8,P6,20210403,a")
    assert run(tmp_path, *lines, exams=exams) == ({"1.2.6": "a"}, [])
    exams = [Exam("1.2.6", frozenset(), "P6", uids=frozenset(["1.2.6"]))]
    assert run(tmp_path, *lines[:1], "1.2.6,D8,P6,,a", exams=exams)[0] == {"1.2.6": "a"}


@pytest.mark.parametrize(("day", "joined"), [("20210410", True), ("20210601", False), ("", True)])
def test_a_report_may_be_signed_within_a_month_of_the_exam(
    tmp_path: Path, day: str, joined: bool
) -> None:
    exams = [Exam("1.2.6", frozenset(["D8"]), "P6", day="20210403")]
    found, _ = run(tmp_path, "accession,date,report", f"D8,{day},a", exams=exams)
    assert found == ({"1.2.6": "a"} if joined else {})


def test_a_further_key_decides(tmp_path: Path) -> None:
    lines = ("study,accession,report", "1.2.3,0,a")
    assert run(tmp_path, *lines) == ({"1.2.3": "a"}, [])
    lines = ("accession,patient,date,report", "0,P3,20210403,a")
    assert run(tmp_path, *lines) == ({"1.2.3": "a"}, [])


def test_keys_that_a_spreadsheet_changed(tmp_path: Path) -> None:
    lines = ("study,report", "101,a", "b102,b", "1.23E+30,c", "1.5e17,d", "9.9,e")
    reports, notes = run(tmp_path, *lines)
    assert reports == {}
    assert [note.where for note in notes if note.code == "report-without-study"] == [
        f"reports.csv line {number}" for number in range(2, 7)
    ]
    assert {note for note in notes if note.code != "report-without-study"} == {
        Note("report-key-zeros", "reports.csv, 1 row from line 2"),
        Note("report-key-case", "reports.csv, 1 row from line 3"),
        Note("report-key-scientific", "reports.csv, 2 rows from line 4"),
    }


@pytest.mark.parametrize("key", ["'1001", '="1001"', "1001.0", "1001 "])
def test_keys_with_signs_that_a_program_added(tmp_path: Path, key: str) -> None:
    exams = [Exam("1.2.1", frozenset(["1001"]), "P1", "20210403", "x")]
    reports, notes = run(tmp_path, "accession,report", f"{key},a", exams=exams)
    if key == "1001 ":
        assert reports == {"1.2.1": "a"}
    else:
        assert Note("report-key-signs", "reports.csv, 1 row from line 2") in notes


def test_a_word_for_nothing_is_no_report_and_is_named(tmp_path: Path) -> None:
    words = [r"\N", "#NV", "N.A.", "[NULL]", "#REF!", "k.A.", "."]
    rows = [f"1.2.{number},{word}" for number, word in enumerate(words, 1)]
    exams = [Exam(f"1.2.{number}") for number in range(1, 9)]
    reports, notes = run(tmp_path, "study,report", *rows, "1.2.8,", exams=exams)
    assert reports == dict.fromkeys(f"1.2.{number}" for number in range(1, 9))
    assert notes == [Note("report-empty", f"reports.csv line {n}") for n in range(2, 9)]


def test_an_unknown_date_is_the_only_error_of_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2, column 'date'.*: unknown value") as caught:
        run(tmp_path, "patient,date,report", "P1,01/02/2021,a")
    assert "empty cell" not in str(caught.value)


def test_identity_rules_hold_for_the_table(tmp_path: Path) -> None:
    exams = [Exam("1.2.1", frozenset(), "00077^^^HOSP", "20210403", "x")]
    lines = ("patient,date,report", "77,20210403,a")
    rules = IdentityConfig(strip_zeros=True, strip_suffix=True)
    assert run(tmp_path, *lines, exams=exams, config=settings(identity=rules))[0] == {"1.2.1": "a"}
    assert run(tmp_path, *lines, exams=exams)[0] == {}


def test_addenda(tmp_path: Path) -> None:
    lines = ("study,report,density", "1.2.1,first,B", "B102,other,", "00101,second,c", "1.2.1,,")
    with pytest.raises(DataError, match="2 errors: line 4, column 'study': duplicate row"):
        run(tmp_path, *lines)
    assert run(tmp_path, *lines, config=settings("append"))[0]["1.2.1"] == (
        Part("first"),
        Part("second"),
    )
    entries, _ = ReportTable(tmp_path, settings("append")).join(EXAMS)
    assert entries["1.2.1"].labels == Labels(density="C")
    assert run(tmp_path, *lines[:-1], config=settings("last"))[0]["1.2.1"] == "second"


def test_rows_of_one_breast(tmp_path: Path) -> None:
    lines = (
        "study,laterality,report,birads,cancer",
        "1.2.1,RIGHT,Mass.,4A,yes",
        "1.2.1,l,Normal.,1.0,0.0",
        "1.2.2,B,Dense.,,",
    )
    reports, _ = run(tmp_path, *lines)
    assert reports == {"1.2.1": (Part("Mass.", "R"), Part("Normal.", "L")), "1.2.2": "Dense."}
    entries, _ = ReportTable(tmp_path).join(EXAMS)
    labels = Labels(birads={"R": "4A", "L": "1"}, cancer={"R": True, "L": False})
    assert entries["1.2.1"].labels == labels
    with pytest.raises(DataError, match="line 2, column 'birads': the breast is not named"):
        run(tmp_path, "study,report,birads", "1.2.1,x,4")


def test_labels_and_parts(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text(
        "study,report,density,birads_left,birads_right,suspicious_left,cancer_right,split\n"
        "1.2.1,NULL,ACR b,BI-RADS 4,0,1.0,nan,valid\n"
        "1.2.2,x,,,,,,test\n"
    )
    entries, notes = ReportTable(tmp_path).join(EXAMS)
    first = entries["1.2.1"]
    assert (first.report, first.split) == (None, "train")
    birads, suspicious = {"L": "4", "R": "0"}, {"L": True}
    assert first.labels == Labels(density="B", birads=birads, suspicious=suspicious)
    assert entries["1.2.2"].split == "test"
    assert Note("validation-as-training", "reports.csv") in notes


def test_all_errors_of_a_file_in_one_run(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(
            tmp_path,
            "study,report,density,date",
            "1.2.1,Doe,E,",
            "1.2.2,Doe",
            ",Doe,,",
            "1.2.3,Doe,,03/04/2021",
        )
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'reports.csv'}: 4 errors: line 2, column 'density'")
    for part in ("line 3: the row has 2 cells", "line 4, column 'study': empty", "line 5, column"):
        assert part in message
    assert "Doe" not in message


def test_unknown_columns_are_passed_over(tmp_path: Path) -> None:
    reports, notes = run(tmp_path, "study,report,Referrer,suspicous_left", "1.2.1,x,Doe,7")
    assert reports == {"1.2.1": "x"}
    assert notes == [
        Note("column-unknown", "reports.csv column 'Referrer'"),
        Note("column-unknown", "reports.csv column 'suspicous_left'"),
    ]
    with pytest.raises(ConfigError, match="unknown name 'text'"):
        run(tmp_path, "study,report", config=settings(text="report"))
    with pytest.raises(DataError, match="no column says which study a row is of"):
        run(tmp_path, "patient,report", "P1,x")
    with pytest.raises(DataError, match=r"'Text' is missing.*'study', 'Report Text': map one"):
        run(tmp_path, "study,Report Text", config=settings(report="Text"))
    with pytest.raises(DataError, match=r"'AccNo' and 'report' are missing\. Add a header"):
        run(tmp_path, "B102,Doe Jane mass", config=settings(accession="AccNo"))


@pytest.mark.parametrize("name", ["Reports.CSV", "reports.tsv", "REPORTS.jsonl"])
def test_names_of_the_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    (tmp_path / "reports").mkdir()  # empty: not the reports
    (tmp_path / "old reports.csv").write_text("")
    assert find_table(tmp_path).name == name
    (tmp_path / "reports" / "1.2.txt").write_text("x")
    with pytest.raises(DataError, match="several tables of reports: "):
        find_table(tmp_path)


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "B102.txt").write_text("b")
    (tmp_path / "reports" / "other.txt").write_text("c")
    entries, notes = ReportTable(tmp_path).join(EXAMS)
    assert entries["1.2.2"].report == "b"
    assert notes[0] == Note("report-without-study", "reports/other.txt")


IDS = st.sampled_from(["1", "01", "2", "a", "A", "3"])


@given(
    exams=st.lists(st.tuples(IDS, IDS, IDS), max_size=5, unique_by=lambda exam: exam[0]),
    keys=st.builds(Keys, IDS | st.just(""), IDS | st.just(""), IDS | st.just(""), st.just("d")),
)
def test_a_report_goes_only_where_every_matching_key_leads(exams: list, keys: Keys) -> None:
    all_exams = [Exam(uid, frozenset([acc]), patient, "d") for uid, acc, patient in exams]
    found = Joiner(all_exams, IdentityConfig()).find(keys, "t.csv line 2")
    for exam in all_exams:
        if exam.study == found:
            assert keys.study in (exam.study, *exam.accessions) or (
                keys.accession in exam.accessions or keys.patient == exam.patient
            )
            assert keys.accession in ("", *exam.accessions)
            assert keys.patient in ("", exam.patient)
            others = [other for other in all_exams if other.study != found]
            assert not any(keys.study == other.study for other in others)
