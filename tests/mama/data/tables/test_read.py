"""Tables of all kinds: separators, encodings, Excel, JSON lines, Parquet, folders, and mistakes."""

import csv
import io
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from mama.data.tables import read_table
from mama.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
CELLS = st.text("ab,;\t|\"'\n\r é:1", max_size=20)


def cells(path: Path, **options: Any) -> list[tuple[str, ...]]:
    return [row.cells for row in read_table(path, **options).rows]


def write(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_encodings_and_ends_of_lines(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    lines = [f"study{separator}report", f"1.2{separator}Fibröse Drüse – über", f"1.3{separator}b"]
    table = read_table(write(tmp_path, end.join(lines), encoding=encoding))
    assert table.columns == ("study", "report")
    assert [row.cells for row in table.rows] == [("1.2", "Fibröse Drüse – über"), ("1.3", "b")]
    assert [row.line for row in table.rows] == [2, 3]
    guessed = (("table-encoding", "t.csv"),) if encoding == "cp1252" else ()
    assert table.remarks == guessed


@given(
    reports=st.lists(CELLS, min_size=1, max_size=4),
    separator=st.sampled_from(SEPARATORS),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=100, deadline=None)
def test_any_report_comes_back(reports: list[str], separator: str, quoting: Any) -> None:
    text = io.StringIO()
    table = csv.writer(text, delimiter=separator, quoting=quoting)
    table.writerow(["report", "study"])
    table.writerows([[report, f"1.{number}"] for number, report in enumerate(reports)])
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), text.getvalue())
        assert cells(path) == [(one.strip(), f"1.{n}") for n, one in enumerate(reports)]


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_a_table_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_bytes(data)
        with suppress(DataError):
            read_table(Path(folder) / "t.csv")


def test_lines_of_rows_below_cells_of_several_lines(tmp_path: Path) -> None:
    text = 'study,report\n\n1.2,"one\ntwo, three\r\nfour"\n\n1.3,"five"\n'
    table = read_table(write(tmp_path, text))
    assert [row.line for row in table.rows] == [3, 7]
    assert table.rows[0].cells[1] == "one\ntwo, three\r\nfour"
    assert table.place(table.rows[1]) == "t.csv line 7"


def test_separator_line_and_separators_at_the_ends(tmp_path: Path) -> None:
    assert cells(write(tmp_path, "sep=;\r\nstudy;a,b,c\r\n1;2\r\n")) == [("1", "2")]
    table = read_table(write(tmp_path, "study,report,,\n1.2,x,,\n1.3,y,,\n"))
    assert table.columns == ("study", "report")
    assert [row.cells for row in table.rows] == [("1.2", "x"), ("1.3", "y")]


def test_a_header_with_commas_between_semicolons(tmp_path: Path) -> None:
    text = "Date (D,M,Y);Name;Text\n1;2;one, two, three, four\n3;4;five\n"
    assert cells(write(tmp_path, text)) == [("1", "2", "one, two, three, four"), ("3", "4", "five")]


def test_quotes_within_a_quoted_cell(tmp_path: Path) -> None:
    text = 'study,report\n1.2,"The "dense" breast, left"\n1.3,"A ""mass"""\n1.4,5" wide\n'
    assert cells(write(tmp_path, text)) == [
        ("1.2", 'The "dense" breast, left'),
        ("1.3", 'A "mass"'),
        ("1.4", '5" wide'),
    ]


HEAD = "study,report\n10.20.1,Normal.\n"


@pytest.mark.parametrize(
    "text",
    [
        '10.20.2,"Mass left\n10.20.3,Normal.\n10.20.4,Normal.\n',  # to the end of the file
        '10.20.2,"Mass left\n10.20.3,"Normal, too."\n10.20.4,x\n',  # to another opening quote
        '10.20.2,"Mass left\n10.20.3,Size 5"\n10.20.4,x\n',  # to a quote at the end of a line
        '10.20.2,"Mass left\n10.20.3,""\n10.20.4,"x"\n',
        '10.20.2,"Mass\nleft, upper\n\n10.20.3,x\n',
        '10.20.2,"Mass ""left""\n10.20.3,x\n',
    ],
)
def test_an_unclosed_quote_is_named_by_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"t.csv, line 3: a quote is not closed") as caught:
        read_table(write(tmp_path, HEAD + text))
    assert "Mass" not in str(caught.value)


def test_an_unclosed_quote_in_the_first_row_or_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: a quote is not closed"):
        read_table(write(tmp_path, 'report,study\n"Mass,A123\nNormal.,A124\nNormal.,A125\n'))
    with pytest.raises(DataError, match="line 2: a quote is not closed"):
        read_table(write(tmp_path, 'report,study\n"Mass,A123\nNo "mass",A124\n5",A125\n'))
    with pytest.raises(DataError, match="line 1: a quote is not closed"):
        read_table(write(tmp_path, 'study,"report\n1,2\n'))


def test_a_quote_in_a_row_below_ends_the_cell(tmp_path: Path) -> None:
    text = 'study,report,density\nA10011,ok,A\nA10012,"bad,B\nA10013,5",C\nA10014,x,D\n'
    with pytest.raises(DataError, match="line 3: a quote is not closed"):
        read_table(write(tmp_path, text))
    text = 'study,report,density\nA10011,"Mass\nA1, stable\nwas, as, before",A\n'
    assert cells(write(tmp_path, text))[0][2] == "A"


@pytest.mark.parametrize(
    "text",
    [
        '1001,"one\n1002,two says "normal"\n1003,"three"\n',
        'A1,"one\nA2,two says "normal"\nA3,"three"\n',
        'A1,"one\nA2,two"\nA3,three\n',
        '101,"one\n102,two"\n103,three\n',
        '7,"one\n9,two says "normal"\n11,three\n',
    ],
)
def test_an_unclosed_quote_among_short_keys(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="line 2: a quote is not closed"):
        read_table(write(tmp_path, "study,report\n" + text))


def test_a_cell_of_very_many_lines_is_no_report(tmp_path: Path) -> None:
    rows = "\n".join(f"row {number}" for number in range(300))
    with pytest.raises(DataError, match="line 3: a quote is not closed"):
        read_table(write(tmp_path, f'{HEAD}10.20.2,"{rows}"\n'))


def test_reports_with_lists_are_no_rows(tmp_path: Path) -> None:
    report = "Findings:\n1, stable mass\n2, no calcification\nMass, 12 mm\n2019, unchanged"
    path = write(tmp_path, f'study,report\nA10023,"{report}"\nA10024,Normal.\n')
    assert cells(path) == [("A10023", report), ("A10024", "Normal.")]
    path = write(tmp_path, f'study,report\n1,"{report}"\n1001,"{report}"\n')
    assert cells(path) == [("1", report), ("1001", report)]


def test_all_mistakes_are_named_in_one_run(tmp_path: Path) -> None:
    good = "10.20.1,x\n" * 3
    bad = 'a\n10.20.2,"x\n10.20.3,y\na,b,c\na,b,c\na,b,c\na,b,c\nDoe,b,c\n'
    with pytest.raises(DataError) as caught:
        read_table(write(tmp_path, f"study,report\n{good}{bad}"))
    message = str(caught.value)
    assert "7 errors: line 5: the row has 1 cells, the header 2 columns" in message
    assert "line 6: a quote is not closed" in message
    assert "line 8: the row has 3 cells" in message
    assert "line 12" not in message
    assert "; and 2 more" in message
    assert "Doe" not in message
    assert "\n" not in message


def excel(path: Path, *rows: list[Any], sheet: str = "all") -> Path:
    book = Workbook()
    book.active.title = "first"
    book.active.append(["other"])
    content = book.create_sheet(sheet)
    for row in rows:
        content.append(row)
    book.save(path)
    return path


def test_excel(tmp_path: Path) -> None:
    from datetime import datetime

    path = excel(
        tmp_path / "t.csv",  # the content decides, not the name
        ["Study", "Report", "Birads", "Day", None],
        ["00123", " Two\nlines ", 4.0, datetime(2021, 4, 3)],
        [],
        [1.23e30, None, True, datetime(2021, 4, 3, 9, 30)],
        ["x"],
    )
    table = read_table(path, sheet="all")
    assert table.columns == ("Study", "Report", "Birads", "Day")
    assert [row.cells for row in table.rows] == [
        ("00123", "Two\nlines", "4", "2021-04-03"),
        ("1.23e+30", "", "true", "2021-04-03T09:30:00"),
        ("x", "", "", ""),
    ]
    assert [row.line for row in table.rows] == [2, 4, 5]
    assert read_table(path).columns == ("other",)
    with pytest.raises(DataError, match=r"no sheet 'none'\. Name one of the file's 2 sheets"):
        read_table(path, sheet="none")
    with pytest.raises(DataError, match="line 2: the row has cells beyond the 1 columns"):
        read_table(excel(tmp_path / "b.xlsx", ["a"], [1, 2]), sheet="all")


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps({"study": "1.2", "report": "x\ny", "density": 3.0, "empty": None}),
        "",
        '{"study": 12345678901234567890123, "yes": true, "list": ["a", "b"]}',
    ]
    table = read_table(write(tmp_path, "\n".join(lines), "t.jsonl"))
    assert table.columns == ("study", "report", "density", "empty", "yes", "list")
    assert [row.cells for row in table.rows] == [
        ("1.2", "x\ny", "3.0", "", "", ""),
        ("12345678901234567890123", "", "", "", "true", '["a", "b"]'),
    ]
    assert [row.line for row in table.rows] == [1, 3]
    with pytest.raises(DataError, match="2 errors: line 1: the line is not a JSON object"):
        read_table(write(tmp_path, "[1]\n{bad\n", "t.jsonl"))


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet is optional: fedmama[parquet]")
    import pyarrow.parquet as parquet

    columns = {"study": ["1.2", "1.3"], "density": [3.0, None], "report": ["x", None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert cells(tmp_path / "t.parquet") == [("1.2", "3", "x"), ("1.3", "", "")]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match="the Parquet file is damaged"):
        read_table(tmp_path / "bad.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"Parquet needs pyarrow.*fedmama\[parquet\]"):
        read_table(tmp_path / "t.parquet")


def test_a_folder_of_texts(tmp_path: Path) -> None:
    write(tmp_path, "Normal.\n", "1.2.3.txt")
    write(tmp_path, "Drüse", "1.2.4.TXT", "cp1252")
    write(tmp_path, "no text", "notes.md")
    table = read_table(tmp_path)
    assert [row.cells for row in table.rows] == [("1.2.3", "Normal."), ("1.2.4", "Drüse")]
    assert table.place(table.rows[0]) == f"{tmp_path.name}/1.2.3.txt"
    assert table.remarks == (("table-encoding", f"{tmp_path.name}/1.2.4.TXT"),)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xd0\xcf\x11\xe0rest", r"an old Excel file \(.xls\). Save it as .xlsx"),
        (b"PK\x03\x04rest", "not a readable Excel file"),
        (b"study,report\n1,\0\n", "not a text file. Save it as UTF-8 CSV"),
        (b"study,report\n1,\x81\n", "not a text file"),  # no character of Windows-1252
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=says):
        read_table(tmp_path / "t.csv")
    with pytest.raises(DataError, match="no such table"):
        read_table(tmp_path / "none.csv")


def test_an_empty_file(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "\n\n"))
    assert (table.columns, table.rows) == ((), ())


def test_a_folder_of_reports_passes_over_what_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "1.2.1.txt").write_text("Normal.")
    (folder / "._1.2.1.txt").write_bytes(b"\0\5\26\7")  # as macOS writes beside each file
    (folder / "old.txt").mkdir()
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    table = read_table(folder)
    assert [row.cells for row in table.rows] == [("1.2.1", "Normal.")]
    assert table.remarks == (("report-unreadable", "reports/gone.txt"),)
