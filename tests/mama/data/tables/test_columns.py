"""The map of columns: names, case, unknown and repeated columns."""

from pathlib import Path

import pytest

from mama.data.tables import Problems, Row, Table
from mama.data.tables.columns import choose
from mama.errors import ConfigError, DataError

KNOWN = ("study", "report", "density")


def table(*columns: str) -> Table:
    return Table(Path("t.csv"), columns, (Row(2, tuple("abcdef"[: len(columns)])),))


def test_names_of_the_map_and_own_names() -> None:
    content = table("ACCESSION NUMBER", "Density", "secret", "reporttext")
    problems = Problems(content.path)
    mapping = {"study": "Accession Number", "report": "ReportText"}
    found = choose(content, KNOWN, problems, required=("report",), mapping=mapping)
    problems.raise_all()
    assert [found.cell(content.rows[0], name) for name in KNOWN] == ["a", "d", "b"]
    assert found.unknown == ("secret",)
    assert found.heading("study") == "ACCESSION NUMBER"
    assert "density" in found
    assert "split" not in found
    assert found.cell(content.rows[0], "split") == ""


def test_a_mapped_column_hides_the_column_of_that_name() -> None:
    content = table("report", "final")
    found = choose(content, KNOWN, Problems(content.path), mapping={"report": "final"})
    assert found.cell(content.rows[0], "report") == "b"
    assert found.unknown == ("report",)


def test_missing_repeated_and_unknown() -> None:
    content = table("study", "STUDY")
    problems = Problems(content.path)
    choose(content, KNOWN, problems, required=("report",), mapping={"density": "acr"})
    with pytest.raises(DataError) as caught:
        problems.raise_all()
    for what in ("column 2 is repeated", "columns 'report' and 'acr' are missing"):
        assert f"line 1: {what}" in str(caught.value)
    with pytest.raises(ConfigError, match=r"reports.columns: unknown name 'reprot'. Use study,"):
        choose(content, KNOWN, problems, mapping={"reprot": "x"})
