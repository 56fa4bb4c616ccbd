"""Comparison of sites' data: values of the distance, the status table and the report's section."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mama.exchange.metrics import DataStatistics, Table
from server.report.statistics import Share, differences, shares, statistics_in
from server.report.statistics_view import of_status, sections
from server.report.status import status
from server.run.folder import RunFolder
from server.run.history import replay
from tests.events import made
from tests.server.report.test_page import HOSTILE, federated, finished, report

A_LONG_NAME = "a-hospital-with-a-long-name-of-40-letters"


def density(total: int, **cells: int | None) -> DataStatistics:
    table = Table(total=total, cells=cells)
    return DataStatistics(minimum=5, patients=total, studies=total, tables={"density": table})


ALIKE = density(100, A=10, B=40, C=40, D=10)


def test_a_suppressed_share_lies_between_nothing_and_the_rest() -> None:
    table = density(100, A=20, B=60, C=None, D=None).tables["density"]
    hidden = Share(0.0, pytest.approx(0.2))
    assert shares(table) == {"A": (0.2, 0.2), "B": (0.6, 0.6), "C": hidden, "D": hidden}


def test_a_site_with_other_shares_is_named_with_the_category_that_differs_most() -> None:
    found = {"alder": ALIKE, "birch": density(100, B=20, C=40, D=40), "cedar": ALIKE}
    (birch,) = differences(found)
    # Others: A 0.1, B 0.4, C 0.4, D 0.1; the distance is half of 0.1 + 0.2 + 0.3.
    assert (birch.site, birch.attribute, birch.category) == ("birch", "density", "D")
    assert birch.distance == pytest.approx(0.3)
    assert str(birch) == "birch: density D 40 % against 10 % at the others"
    # Of the others, alder lies (0 + 0.1 + 0 + 0.15) / 2 from the mean of cedar and birch.
    assert [one.site for one in differences(found, bound=0.14)] == ["alder", "birch", "cedar"]
    assert [one.distance for one in differences(found, bound=0.14)] == pytest.approx(
        [0.15, 0.3, 0.15]
    )


def test_suppressed_counts_never_make_a_difference() -> None:
    hidden = density(100, A=None, B=40, C=40, D=None)
    assert differences({"alder": ALIKE, "birch": hidden}, bound=0.0) == []
    # D may be all of the 60 that are hidden, or none of them: A is too few in any case.
    other = density(100, A=None, B=40, D=None)
    _, birch = differences({"alder": density(100, A=20, C=80), "birch": other})
    assert birch.distance == pytest.approx(0.8)  # C 0 against 0.8
    assert (birch.category, birch.share, birch.others) == ("C", 0.0, 0.8)


def test_a_site_cannot_speak_louder_by_claiming_more_patients() -> None:
    giant = density(10**9, D=10**9)
    found = {name: ALIKE for name in ("alder", "birch", "cedar", "dogwood", "elm")}
    assert [one.site for one in differences(found | {"giant": giant})] == ["giant"]


def run_of(path: Path, *events: dict[str, Any]) -> Path:
    path.mkdir()
    start = {"event": "start", "run": "0123456789abcdef", "round": 0, "rounds": 4}
    for event in (start, *events):
        RunFolder(path).log(made(event))
    return path


def event(site: str, statistics: DataStatistics | None, **values: Any) -> dict[str, Any]:
    told = statistics and statistics.model_dump()
    return {"event": "statistics", "site": site, "statistics": told, **values}


def test_the_status_shows_a_table_and_sentences(tmp_path: Path) -> None:
    path = run_of(
        tmp_path / "run",
        event("alder", ALIKE),
        event(A_LONG_NAME, density(100, B=20, C=None, D=60, unknown=None)),
        event("cedar", None),
        event("dogwood", None, problem="answer belongs to another task"),
        event("alder", density(5, D=5)),  # a second answer does not count
    )
    whole = status(path)
    assert whole["statistics"]["alder"] == ALIKE.model_dump()
    assert whole["no_statistics"] == {
        "cedar": "its policy releases none",
        "dogwood": "answer belongs to another task",
    }
    console = Console(width=80, record=True, file=io.StringIO())
    for part in of_status(whole):
        console.print(part)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "10/40/40/10/0" in text
    assert "0/20/*/60/*" in text
    assert f"{A_LONG_NAME}: density D 60 % against 10 % at the others" in " ".join(text.split())
    assert "no statistics: cedar, dogwood" in text


def test_a_run_without_statistics_shows_nothing(tmp_path: Path) -> None:
    assert of_status(status(run_of(tmp_path / "run", event("alder", None)))) == []


def test_lines_of_another_version_are_passed_over() -> None:
    other = made({"event": "statistics", "site": "alder", "statistics": {"shoe_size": 38}})
    assert statistics_in(replay([other])) == {}


def test_the_reports_table_has_a_column_for_each_category_of_any_site() -> None:
    (part,) = sections({"alder": ALIKE, "birch": density(100, B=80, C=None, unknown=None)})
    assert (part["name"], part["columns"]) == ("density", ["A", "B", "C", "D", "unknown"])
    assert part["rows"] == [
        ("alder", ["10", "40", "40", "10", "0"]),
        ("birch", ["0", "80", "*", "0", "*"]),
    ]


def test_the_report_shows_the_tables_who_differs_and_who_is_silent(tmp_path: Path) -> None:
    others = density(100, B=20, C=None, D=60, unknown=None)
    page = report(
        tmp_path,
        [
            *finished(),
            event("a", ALIKE),
            event("b", others),
            event("c", None),
            event(HOSTILE, None, problem=HOSTILE),
        ],
        {"federated": federated(0.9, 0.8)},
    )
    section = page.split("How the sites' data differ</h2>")[1].split("<h2>")[0]
    rows = [
        re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", section)
    ]
    assert rows == [
        ["density, %", "A", "B", "C", "D", "unknown"],
        ["a", "10", "40", "40", "10", "0"],
        ["b", "0", "20", "*", "60", "*"],
    ]
    assert "<li>b: density D 60 % against 10 % at the others</li>" in section
    assert "c has no statistics: its policy releases none." in section
    assert HOSTILE not in page


def test_the_report_of_a_run_without_statistics_has_no_such_section(tmp_path: Path) -> None:
    page = report(tmp_path, [*finished(), event("a", None)], {"federated": federated(0.9, 0.8)})
    assert "data differ" not in page
