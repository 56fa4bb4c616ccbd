"""Files and rows of public sets."""

from pathlib import Path

import pytest

from mama.data.adapters.notes import Note
from mama.data.adapters.public.files import Files, Remarks, Sheet, among, find_table, number
from mama.data.tables.codes import CodeError
from mama.errors import DataError


def test_files_by_as_many_folders_as_decide(tmp_path: Path, touch) -> None:
    touch("a/1/x.dcm", "b/1/x.dcm", "b/2/y.DCM", "b/2/._y.dcm", "b/2/y.txt")
    files, remarks = Files(tmp_path, (".dcm",)), Remarks()
    assert files.find("/mnt/elsewhere/b/1/x.dcm") == tmp_path / "b/1/x.dcm"
    assert files.find("A\\1\\X.dcm") == tmp_path / "a/1/x.dcm"
    assert files.find("x.dcm") is None  # two of that name
    assert files.find("other/folders/y.dcm") == tmp_path / "b/2/y.DCM"
    assert files.find("") is files.find("z.dcm") is None
    touch("c/z.dcm", "c/w.dcm")
    files = Files(tmp_path, (".dcm",))
    files.find("y.dcm")
    files.unused(remarks)
    assert remarks.notes() == [Note("image-without-row", "a/1/x.dcm and 3 more")]


def test_tables_by_name_and_columns_of_several_releases(tmp_path: Path, write_table) -> None:
    write_table("deep/Table_Reduced.csv", "a,Side", "1,L", "2,X")
    path = find_table(tmp_path, "table.csv", "table_reduced.csv")
    table = Sheet(path, {"side": ("left or right", "side"), "age": ("age",)}, ("side",))
    assert [table.cell(row, "side") for row in table] == ["L", "X"]
    assert table.cell(table.table.rows[0], "age") == ""
    read = among({"L": 1})
    remarks = Remarks()
    assert [table.soft(row, "side", read, remarks) for row in table] == [1, None]
    assert remarks.notes()[0] == Note("code-unknown", "Table_Reduced.csv line 3, column 'side'")
    assert [table.code(row, "side", read) for row in table] == [1, None]
    with pytest.raises(DataError, match=r"line 3, column 'Side': unknown value. Use one of L"):
        table.problems.raise_all()
    with pytest.raises(DataError, match="line 1: column 'age' is missing"):
        Sheet(path, {"age": ("age",)}, ("age",))
    with pytest.raises(DataError, match=r"other.csv is missing"):
        find_table(tmp_path, "other.csv")


def test_codes_of_a_set() -> None:
    read = among({"Benign": False, "Normal": None, "A B": True})
    assert [read(text) for text in (" benign ", "NORMAL", "", "NaN", "a  b")] == [
        False, None, None, None, True,
    ]  # fmt: skip
    with pytest.raises(CodeError):
        read("other")


def test_numbers_that_pandas_wrote() -> None:
    assert [number(text) for text in ("12.0", "12", " 1.2.0 ", "x.0")] == [
        "12",
        "12",
        "1.2.0",
        "x.0",
    ]
