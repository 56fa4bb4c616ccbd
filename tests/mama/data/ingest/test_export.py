"""A realistic export: 30 studies with everything that an archive keeps beside mammograms."""

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from mama.data.ingest.report import JSON, PAGE, WITH_REMARKS, IngestReport
from mama.data.manifest import Dataset
from tests.mama.data.export import person, write_export
from tests.mama.data.ingest.test_run import run

STUDIES = 30


class Ingested(NamedTuple):
    source: Path
    out: Path
    report: IngestReport


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """The export, of which two studies have no report and one row no study.

    Its 630 files take some seconds; all tests here share them.
    """
    folder = tmp_path_factory.mktemp("export")
    source = write_export(folder / "source", [person(n) for n in range(STUDIES)], dose_pages=10)
    table = source / "reports.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows[:-2], 'A9999,"Normal."']) + "\n")
    return Ingested(source, folder / "out", run(source, folder / "out"))


def test_the_mammograms_and_nothing_else(ingested: Ingested) -> None:
    report = ingested.report
    assert (report.studies, report.images) == (STUDIES, 4 * STUDIES)
    studies = Dataset(ingested.out).manifest.studies
    assert all(len(study.images) == 4 for study in studies)
    assert len(list((ingested.out / "images").glob("*.npy"))) == 4 * STUDIES
    assert report.contents.views_a_study == {"LCC LMLO RCC RMLO": STUDIES}
    assert report.contents.spacing == {"0.070 mm": 40, "0.085 mm": 40, "0.100 mm": 40}
    assert report.contents.birads == {"1": 28, "4": 28, "unknown": 4}
    assert report.contents.vendors == {"GE MEDICAL SYSTEMS": 40, "HOLOGIC, Inc.": 40, "SIEMENS": 40}
    assert report.languages == {"en": 28}


def test_what_was_left_out_and_remarked_on(ingested: Ingested) -> None:
    report = ingested.report
    assert Counter(skipped.reason for skipped in report.skipped) == {
        "for-processing": 120, "tomosynthesis": 120, "synthetic": 120, "no-image": 120,
        "secondary-capture": 10,
    }  # fmt: skip
    assert Counter(note.code for note in report.notes) == {
        "study-without-report": 2,
        "report-without-study": 1,
    }
    assert report.exit_code == WITH_REMARKS
    assert all(group.expected for group in report.left_out())
    assert not any(group.expected for group in report.remarked())


def test_ten_lines(ingested: Ingested) -> None:
    lines = ingested.report.lines(ingested.out)
    # A site adds the line of those who withdrew.
    assert len(lines) < 10
    assert max(map(len, lines)) < 160
    assert lines[0] == "30 studies of 30 patients, 120 images, 0 from the cache"
    assert "490 files left out: for-processing (120), no-image (120), synthetic (120), " in lines[5]


def test_the_json_file_has_everything_by_code(ingested: Ingested) -> None:
    values = json.loads((ingested.out / JSON).read_text())
    found = {group["code"]: group for group in [*values["left_out"], *values["remarks"]]}
    assert len(found["for-processing"]["places"]) == 120
    assert found["for-processing"]["places"][0] == "dicom/STU00000/IM0001"
    assert found["report-without-study"]["places"] == ["reports.csv line 30"]
    assert [place[:15] for place in found["study-without-report"]["places"]] == [
        "dicom/STU00028/",
        "dicom/STU00029/",
    ]
    assert values["by_code"] == {code: len(group["places"]) for code, group in found.items()}


def test_one_page_of_readable_size(ingested: Ingested) -> None:
    page = (ingested.out / PAGE).read_text()
    assert len(page) < 400_000
    # What to look at stands before what is expected.
    order = [
        "To look at",
        "study-without-report",
        "report-without-study",
        "As expected",
        "no-image",
    ]
    places = [page.index(word) for word in order]
    assert places == sorted(places)
    assert "dicom/STU00009/IM0020" in page
    assert page.count("<figure>") == 12


def test_what_changed_since_the_last_time(tmp_path: Path) -> None:
    people, out = [person(n) for n in range(4)], tmp_path / "out"
    source = write_export(tmp_path / "source", people[:3])
    first = run(source, out)
    assert (first.added, first.changed, first.removed, first.before) == (3, 0, 0, None)
    write_export(source, people)
    table = source / "reports.csv"
    table.write_text(table.read_text().replace("5 mm mass", "55 mm mass"))
    again = run(source, out)
    assert (again.added, again.changed, again.removed) == (1, 1, 0)
    assert again.before == dict.fromkeys(
        ["for-processing", "no-image", "synthetic", "tomosynthesis"], 12
    )
    assert [group.more for group in again.left_out()] == [4, 4, 4, 4]
    page = (out / PAGE).read_text()
    assert "studies added: 1, changed: 1, removed: 0" in page
    assert "(+4 since the last ingest)" in page
