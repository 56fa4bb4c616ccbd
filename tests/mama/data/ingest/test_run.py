"""From a hospital's folder to a dataset: ids, splits, repetition, interruption, bad files."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mama.data.adapters import Skipped
from mama.data.adapters.notes import Note
from mama.data.dicom.pixels import read_pixels
from mama.data.ingest.cache import ImageCache
from mama.data.ingest.headers import HEADERS
from mama.data.ingest.report import JSON, PAGE, IngestReport
from mama.data.ingest.run import ingest
from mama.data.manifest import MANIFEST, Dataset
from mama.data.tissue import prepare
from mama.errors import ConfigError, DataError

ROOT = Path(__file__).parents[4]
REAL = ROOT.parent / "shared" / "data" / "mini_mias"
SECRET = bytes(range(32))
INTERRUPTED = """
import os, sys
from pathlib import Path
from mama.data.ingest.run import ingest
source, out, secret = sys.argv[1:]
ingest(Path(source), Path(out), adapter="dicom_folder", secret=bytes.fromhex(secret), long_side=48,
       progress=lambda stage, done, _: os._exit(9) if (stage, done) == ("images", 3) else None)
"""
Write = Callable[..., Path]


def run(source: Path, out: Path, **options) -> IngestReport:
    return ingest(
        source, out, **({"adapter": "dicom_folder", "secret": SECRET, "long_side": 48} | options)
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        # The report states what came from the cache; index and headers, the states of the files.
        if path.is_file() and path.name not in ("index.jsonl", HEADERS, JSON, PAGE)
    }


def test_the_dataset(hospital: Path, tmp_path: Path):
    report = run(hospital, tmp_path / "out")
    assert (report.studies, report.images, report.cached) == (4, 8, 0)
    assert (report.added, report.removed) == (4, 0)
    assert (report.dropped_studies, report.without_report) == (0, 0)
    assert report.clean
    assert report.contents.sides == {"L": 4, "R": 4}
    assert report.contents.views == {"CC": 8}
    assert report.contents.density == {"C": 4}
    assert sum(report.contents.splits.values()) == report.contents.patients == 4
    dataset = Dataset(tmp_path / "out")
    studies = dataset.manifest.studies
    assert [study.id for study in studies] == sorted(study.id for study in studies)
    assert len({study.patient for study in studies}) == 4
    for study in studies:
        assert study.texts() == ("Dense, both sides.", "No mass.")
        assert [sentence.side for sentence in study.sentences] == ["both", "both"]
        assert study.labels.density == "C"
        assert {image.laterality for image in study.images} == {"L", "R"}
        for image in study.images:
            pixels = dataset.pixels(image)
            assert pixels.shape == (image.height, image.width)
            assert max(pixels.shape) == 48
            assert pixels.dtype == np.uint8
    original = prepare(read_pixels(hospital / "dicom" / "0L.dcm"), 48).pixels
    assert any(
        np.array_equal(dataset.pixels(image), original)
        for study in studies
        for image in study.images
    )


def test_nothing_of_the_hospital_is_in_the_dataset(hospital: Path, tmp_path: Path):
    run(hospital, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        assert "0L" not in path.name
        if path.suffix in (".json", ".jsonl"):
            text = path.read_text()
            # "acc" alone can be part of a hash.
            planted = ("patient-", "1.2.", "acc0", "acc1", "hospital", "Doe")
            text = re.sub(r'"[0-9a-f]{20,}"', "", text)
            assert not any(word in text for word in planted)


def test_ids_depend_on_the_secret(hospital: Path, tmp_path: Path):
    run(hospital, tmp_path / "a")
    run(hospital, tmp_path / "b", secret=b"another")
    ids = [
        {item for study in Dataset(tmp_path / out).manifest.studies for item in _ids(study)}
        for out in "ab"
    ]
    assert not ids[0] & ids[1]
    assert all(len(id) == 20 for id in ids[0])
    assert len(ids[0]) == 4 + 4 + 8  # the kinds of id never coincide


def test_same_result_with_workers_and_other_file_names(hospital: Path, tmp_path: Path):
    _many(hospital, 12)
    run(hospital, tmp_path / "a")
    for number, path in enumerate(sorted((hospital / "dicom").iterdir(), reverse=True)):
        path.rename(path.with_name(f"{number:03d}.dcm"))
    run(hospital, tmp_path / "b", workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 2 + 24  # manifest and lock


def test_repeating_decodes_only_what_changed(hospital: Path, tmp_path: Path):
    out = tmp_path / "out"
    run(hospital, out)
    before = contents(out)
    assert run(hospital, out).cached == 8
    assert contents(out) == before
    path = hospital / "dicom" / "0L.dcm"
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes(96 * 64) + dataset.PixelData[96 * 64 :]  # of the same size
    dataset.save_as(path)
    report = run(hospital, out)
    assert (report.cached, report.images) == (7, 8)
    changed = {name for name, data in contents(out).items() if before[name] != data}
    assert len(changed) == 2  # the picture and the manifest
    before = contents(out)
    with pytest.raises(ConfigError, match="holds a dataset at 48 pixels, not 32"):
        run(hospital, out, long_side=32)
    assert contents(out) == before


def test_a_lost_picture_is_made_again(hospital: Path, tmp_path: Path):
    out = tmp_path / "out"
    run(hospital, out)
    before = contents(out)
    first, second, *_ = sorted((out / "images").glob("*.npy"))
    first.unlink()
    second.write_bytes(b"")
    assert run(hospital, out).cached == 6
    assert contents(out) == before


def test_goes_on_after_an_interruption(hospital: Path, tmp_path: Path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    killed = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, hospital, out, SECRET.hex()], cwd=ROOT
    )
    assert killed.returncode == 9
    assert not (out / MANIFEST).exists()
    with open(out / "images" / "index.jsonl", "a") as index:
        index.write('{"id": "half a li')
    assert run(hospital, out).cached == 3
    run(hospital, whole)
    assert contents(out) == contents(whole)


def test_a_withdrawn_study_leaves_no_picture(hospital: Path, tmp_path: Path):
    out = tmp_path / "out"
    run(hospital, out)
    for side in "LR":
        (hospital / "dicom" / f"0{side}.dcm").unlink()
    report = run(hospital, out, prune=True)
    assert (report.studies, report.cached, len(report.notes)) == (3, 6, 1)
    assert len(list((out / "images").glob("*.npy"))) == 6


@pytest.mark.parametrize("gone", [1, 4, 5])
def test_a_source_that_shrank_by_more_than_a_tenth_deletes_nothing(
    hospital: Path, tmp_path: Path, gone: int
) -> None:
    _many(hospital, 40)
    out = tmp_path / "out"
    assert run(hospital, out).studies == 40
    before = contents(out)
    for number in range(gone):
        for side in "LR":
            (hospital / "dicom" / f"{number}{side}.dcm").unlink()
    report = run(hospital, out)
    codes = [note.code for note in report.notes]
    if gone <= 4:
        assert (report.studies, report.removed) == (40 - gone, gone)
        assert "source-shrank" not in codes
    else:
        assert (report.studies, report.removed) == (40, 0)
        assert codes.count("source-shrank") == 1
        assert contents(out) == before
        assert run(hospital, out, prune=True).studies == 35


def test_a_source_that_lost_a_tenth_of_its_images_deletes_none(
    hospital: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(hospital, out)
    before = contents(out)
    for path in (hospital / "dicom").glob("*R.dcm"):
        path.unlink()
    report = run(hospital, out)
    assert Note("source-shrank", "4 of 8 images") in report.notes
    assert (report.studies, report.images, report.changed) == (4, 8, 0)
    assert contents(out) == before
    assert run(hospital, out, prune=True).images == 4


def test_an_unreadable_folder_hides_images_and_deletes_none(hospital: Path, tmp_path: Path) -> None:
    _many(hospital, 40)
    out = tmp_path / "out"
    run(hospital, out)
    (hospital / "dicom" / "0L.dcm").unlink()
    (hospital / "dicom" / "more").symlink_to(tmp_path / "not mounted")
    report = run(hospital, out)
    assert ("dicom/more", "read-error") in report.skipped
    assert Note("source-shrank", "1 of 80 images") in report.notes
    assert (report.images, len(list((out / "images").glob("*.npy")))) == (80, 80)


def test_bad_files_are_left_out_and_listed(hospital: Path, tmp_path: Path):
    folder = hospital / "dicom"
    (folder / "0L.dcm").write_bytes((folder / "0L.dcm").read_bytes()[:-3000])
    (folder / "new.dcm").write_bytes(b"no image")
    for side in "LR":
        path = folder / f"3{side}.dcm"
        path.write_bytes(path.read_bytes()[:-3000])
    report = run(hospital, tmp_path / "out")
    assert report.skipped == [
        Skipped(f"dicom/{name}.dcm", "unreadable") for name in ("0L", "3L", "3R", "new")
    ]
    assert (report.studies, report.dropped_studies, report.images) == (3, 1, 5)


def test_empty_reports_are_counted_and_pictures_without_tissue_left_out(
    hospital: Path, tmp_path: Path, write_dicom: Write
):
    (hospital / "reports.csv").write_text("study,report\n1.2.1,Normal.\n1.2.2, \n")
    path = hospital / "dicom" / "0L.dcm"
    black = np.zeros((96, 64), np.uint16)
    fields = {"StudyInstanceUID": "1.2.1", "SOPInstanceUID": "1.2.1.76", "PatientID": "patient-0"}
    write_dicom(path, black, **fields)
    out = tmp_path / "out"
    for _ in range(2):  # the counts do not depend on the cache
        report = run(hospital, out)
        assert report.without_report == 3
        assert report.skipped == [Skipped("dicom/0L.dcm", "no-tissue")]


def test_split_is_by_patient_and_stable(hospital: Path, tmp_path: Path):
    _many(hospital, 100)
    out = tmp_path / "out"
    splits = {}
    for name, fraction in (("a", 0.2), ("b", 0.2), ("c", 0.5)):
        run(hospital, out, test_fraction=fraction)
        splits[name] = {study.id: study.split for study in Dataset(out).manifest.studies}
    assert splits["a"] == splits["b"]
    in_test = {name: {id for id in ids if ids[id] == "test"} for name, ids in splits.items()}
    assert 0.1 < len(in_test["a"]) / 100 < 0.3
    assert in_test["a"] < in_test["c"]


def test_two_studies_of_a_patient_share_the_split(
    hospital: Path, tmp_path: Path, write_dicom: Write
):
    for number in range(4):
        for year in range(5):
            write_dicom(
                hospital / "dicom" / f"{number} {year}",
                PatientID=f"patient-{number}",
                StudyInstanceUID=f"1.3.{number}.{year}",
            )
    run(hospital, tmp_path / "out", test_fraction=0.5)
    studies = Dataset(tmp_path / "out").manifest.studies
    assert len({(study.patient, study.split) for study in studies}) == 4


def test_split_by_column_and_by_function(hospital: Path, tmp_path: Path):
    rows = [f"1.2.{n},x.,{split}" for n, split in enumerate(["train", "test", "test", "train"], 1)]
    (hospital / "reports.csv").write_text("\n".join(["study,report,split", *rows]))
    run(hospital, tmp_path / "a")
    assert len(Dataset(tmp_path / "a").studies("test")) == 2
    run(hospital, tmp_path / "b", split=lambda study: "test" if study.study == "1.2.1" else "train")
    assert len(Dataset(tmp_path / "b").studies("test")) == 1


def test_a_patient_in_both_splits_is_refused(hospital: Path, tmp_path: Path, write_dicom: Write):
    write_dicom(hospital / "dicom" / "x", PatientID="patient-0", StudyInstanceUID="1.3")
    (hospital / "reports.csv").write_text("study,report,split\n1.2.1,x,train\n1.3,x,test\n")
    with pytest.raises(DataError, match="a patient has studies in both splits") as caught:
        run(hospital, tmp_path / "out")
    assert "patient-0" not in str(caught.value)


def test_progress_counts_up_to_all(hospital: Path, tmp_path: Path):
    calls: list[tuple[str, int, int]] = []
    for _ in range(2):
        run(hospital, tmp_path / "out", progress=lambda *told: calls.append(told))
    headers = [("headers", done, 8) for done in range(1, 9)]
    images = [("images", done, 8) for done in range(9)]
    assert calls == [*headers, *images, *headers, ("images", 8, 8)]


def test_folders_that_cannot_be_used(hospital: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere: no such folder\. Check"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "films").mkdir()
    with pytest.raises(DataError, match=r"films: no studies\. Check.*'mias'"):
        run(tmp_path / "films", tmp_path / "out", adapter="mias")
    with pytest.raises(ConfigError, match="unknown adapter"):
        run(hospital, tmp_path / "out", adapter="csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        run(hospital, tmp_path / "file")


def test_only_bad_files(hospital: Path, tmp_path: Path):
    paths = list((hospital / "dicom").iterdir())
    for path in paths:
        path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"no usable image.*unreadable"):
        run(hospital, tmp_path / "out")
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no studies\. All 8 files were skipped: unreadable"):
        run(hospital, tmp_path / "out")


def test_a_worker_that_dies_is_reported(hospital: Path, tmp_path: Path, monkeypatch):
    _many(hospital, 6)
    monkeypatch.setattr("mama.data.ingest.cache._cache_one", _die)
    with pytest.raises(DataError, match=r"worker process died.*resumes where it stopped"):
        run(hospital, tmp_path / "out", workers=2)


def test_labels_do_not_touch_the_pictures(films: Path, tmp_path: Path):
    options = {"adapter": "mias"}
    run(films, tmp_path / "a", **options)
    (films / "labels").unlink()
    report = run(films, tmp_path / "b", **options)
    assert report.without_report == report.studies == 3
    # Here the raw ids of patient and study are the same.
    assert all(study.id != study.patient for study in Dataset(tmp_path / "b").manifest.studies)
    pictures = [{k: v for k, v in contents(tmp_path / x).items() if "npy" in k} for x in "ab"]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 5


def test_the_cache_is_empty_without_sources(tmp_path: Path):
    cache = ImageCache(tmp_path / "images", 48)
    assert cache.fill([], 2, lambda done, total: None) == 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the mini-MIAS films are not here")
def test_real_films(tmp_path: Path):
    """Eight patients of the real folder, the table whole."""
    source = tmp_path / "source"
    (source / "png").mkdir(parents=True)
    for path in sorted((REAL / "png").glob("*.png"))[:16]:
        (source / "png" / path.name).symlink_to(path.resolve())
    shutil.copy(REAL / "labels", source / "labels")
    report = run(source, tmp_path / "out", adapter="mias", long_side=128)
    assert (report.studies, report.images, report.skipped) == (8, 16, [])
    assert report.without_report == 0
    studies = Dataset(tmp_path / "out").manifest.studies
    assert {study.labels.density for study in studies} == {"F", "G", "D"}
    assert all(len(study.sentences) >= 3 for study in studies)


def _ids(study) -> set[str]:
    return {study.id, study.patient, *(image.id for image in study.images)}


def _many(hospital: Path, count: int) -> None:
    """Grow the hospital to `count` studies by editing copies of its first."""
    rows = ["study,report"]
    for number in range(count):
        for side in "LR":
            dataset = pydicom.dcmread(hospital / "dicom" / f"0{side}.dcm")
            dataset.PatientID, dataset.StudyInstanceUID = f"patient-{number}", f"1.2.{number + 1}"
            dataset.SOPInstanceUID = f"1.2.{number + 1}.{ord(side)}"
            dataset.AccessionNumber = f"acc{number}"
            dataset.save_as(hospital / "dicom" / f"{number}{side}.dcm")
        rows.append(f"1.2.{number + 1},Normal.")
    (hospital / "reports.csv").write_text("\n".join(rows))


def _die(job: object) -> None:
    os._exit(1)
