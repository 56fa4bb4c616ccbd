"""Sources with contradictions, damaged copies and failures, and the report on them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mama.config.ingest import IngestConfig
from mama.data.adapters import Skipped
from mama.data.manifest import Dataset
from tests.mama.data.conftest import breast
from tests.mama.data.ingest.test_run import _die, run

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("policy", "sides"), [("unknown", [None]), ("keep", ["R"]), ("exclude", [])]
)
def test_a_chest_wall_on_the_other_side(
    hospital: Path, tmp_path: Path, write_dicom: Write, policy: str, sides: list[str | None]
) -> None:
    fields = {"PatientID": "patient-9", "StudyInstanceUID": "1.9", "SOPInstanceUID": "1.9.1"}
    write_dicom(hospital / "dicom" / "9.dcm", breast(seed=9), ImageLaterality="R", **fields)
    report = run(hospital, tmp_path / "out", config=IngestConfig(conflicts=policy))
    noted = [note for note in report.notes if note.code == "chest-wall-conflict"]
    assert [note.where for note in noted] == ["dicom/9.dcm"]
    studies = [s for s in Dataset(tmp_path / "out").manifest.studies if len(s.images) == 1]
    assert [study.images[0].laterality for study in studies] == sides


def test_a_chest_wall_on_the_other_side_as_the_orientation_says(
    hospital: Path, tmp_path: Path, write_dicom: Write
) -> None:
    fields = {"PatientID": "patient-9", "StudyInstanceUID": "1.9", "PatientOrientation": ["P", "F"]}
    write_dicom(hospital / "dicom" / "9.dcm", breast(seed=9)[:, ::-1], **fields)
    report = run(hospital, tmp_path / "out")
    assert "chest-wall-conflict" not in [note.code for note in report.notes]


def test_the_first_copy_of_an_image_is_damaged(hospital: Path, tmp_path: Path) -> None:
    whole = hospital / "dicom" / "0L.dcm"
    data = whole.read_bytes()
    (hospital / "dicom" / "0 damaged copy.dcm").write_bytes(data[:-3000])
    (hospital / "dicom" / "1 copy.dcm").write_bytes(data)
    report = run(hospital, tmp_path / "out")
    assert report.images == 8
    assert report.skipped == [
        Skipped("dicom/0 damaged copy.dcm", "unreadable"),
        Skipped("dicom/1 copy.dcm", "duplicate"),
    ]


def test_a_failure_is_remembered_until_the_file_changes(
    hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hospital / "dicom" / "0L.dcm"
    data = path.read_bytes()
    path.write_bytes(data[:-3000])
    first = run(hospital, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr("mama.data.ingest.cache._cache_one", _die)
        assert run(hospital, tmp_path / "out").skipped == first.skipped
    path.write_bytes(data)
    assert run(hospital, tmp_path / "out").images == 8


@pytest.mark.parametrize("name", ["ingest_report.html", "ingest_report.json"])
def test_the_report_names_files_reasons_and_remarks(
    hospital: Path, tmp_path: Path, write_dicom: Write, name: str
) -> None:
    write_dicom(hospital / "dicom" / "deep" / "raw.dcm", PresentationIntentType="FOR PROCESSING")
    report = run(hospital, tmp_path / "out")
    text = (tmp_path / "out" / name).read_text(encoding="utf-8")
    for word in ("dicom/deep/raw.dcm", "for-processing", "FOR PROCESSING"):
        assert word in text
    assert len(report.lines(tmp_path / "out")) <= 10
    assert not report.clean
    assert "patient-" not in text
