"""Audit: patients, pictures and reports that are where they must not be."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mama.cli import main
from mama.data.ingest.audit import Finding, audit, audit_dataset, hash_picture
from mama.data.manifest import Dataset
from mama.data.studies import Image, Labels, Study
from tests.mama.data.ingest.test_run import run
from tests.reports import sided

Write = Callable[..., Path]


def study(number: int, patient: str, split: str = "train", report: str = "") -> Study:
    image = Image(id=f"i{number}", laterality="L", view="CC", vendor=None, height=8, width=8)
    return Study.model_validate(
        {
            "id": f"s{number}",
            "patient": patient,
            "split": split,
            "images": (image,),
            "sentences": sided([report] if report else []),
            "labels": Labels(),
        }
    )


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, (64, 48)).astype(np.uint8)


def test_a_sound_dataset_has_no_finding() -> None:
    studies = [study(1, "a", report="Normal."), study(2, "b", "test", "Normal.")]
    assert audit(studies, {"i1": hash_picture(picture(1)), "i2": hash_picture(picture(2))}) == []


def test_a_patient_in_two_splits() -> None:
    found = audit([study(1, "a"), study(2, "a", "test")], {})
    assert found == [Finding("patient-in-two-splits", ("a",))]


@pytest.mark.parametrize("patient", ["a", "b"])
def test_the_same_pixels_twice(patient: str) -> None:
    hashes = {"i1": hash_picture(picture(1)), "i2": hash_picture(picture(1).copy())}
    found = audit([study(1, "a"), study(2, patient)], hashes)
    assert found == [Finding("same-picture", ("i1", "i2"))]


def test_the_same_looks_under_two_patients() -> None:
    bright = (picture(1).astype(int) + 20).astype(np.uint8)
    hashes = {"i1": hash_picture(picture(1)), "i2": hash_picture(bright)}
    assert audit([study(1, "a"), study(2, "b")], hashes) == [
        Finding("similar-picture", ("i1", "i2"))
    ]
    # Of one patient it is a second exposure.
    assert audit([study(1, "a"), study(2, "a")], hashes) == []


def test_a_measured_report_at_two_patients() -> None:
    text = "Mass of 12 mm in the left breast."
    found = audit([study(1, "a", report=text), study(2, "b", report=text)], {})
    assert found == [Finding("same-report", ("a", "b"))]


def test_the_command_and_the_end_of_an_ingest(
    hospital: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    assert run(hospital, out).clean
    assert audit_dataset(Dataset(out)) == []
    first, second, *_ = sorted((out / "images").glob("*.npy"))
    shutil.copy(first, second)
    ended = command(main, "audit", out)
    assert ended.code == 1
    assert "same-picture: two images have the same pixels: " in ended.out


def test_ingest_notes_an_exam_under_two_ids(hospital: Path, tmp_path: Path) -> None:
    import pydicom

    for side in "LR":
        dataset = pydicom.dcmread(hospital / "dicom" / f"0{side}.dcm")
        dataset.PatientID, dataset.StudyInstanceUID = "another", "1.9"
        dataset.SOPInstanceUID = f"1.9.{ord(side)}"
        dataset.save_as(hospital / "dicom" / f"9{side}.dcm")
    notes = run(hospital, tmp_path / "out").notes
    assert [note.where for note in notes if note.code == "same-picture"] == [
        f"dicom/{name}.dcm" for name in ("0L", "0R", "9L", "9R")
    ]
