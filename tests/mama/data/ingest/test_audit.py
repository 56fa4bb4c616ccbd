"""Audit: patients, pictures and reports that are where they must not be."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures
from scipy import ndimage

from mama.cli import main
from mama.data.ingest.audit import Finding, alike, audit, audit_dataset, hash_picture
from mama.data.manifest import Dataset
from mama.data.studies import Image, Labels, Study
from mama.data.tissue import prepare
from tests.mama.data.conftest import breast
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


def film(seed: int) -> np.ndarray:
    """float32 (400, 300) in [0, 1]: smooth noise within half an ellipse."""
    noise = np.random.default_rng(seed).normal(size=(400, 300))
    smooth = ndimage.gaussian_filter(noise, 12)
    return (breast(400, 300) / 4000 * (0.75 + smooth / np.ptp(smooth) / 2)).astype(np.float32)


def compressed(pixels: np.ndarray) -> np.ndarray:
    data = io.BytesIO()
    Pictures.fromarray((pixels * 255).astype(np.uint8)).save(data, "JPEG", quality=85)
    return np.asarray(Pictures.open(data), np.float32) / 255


@pytest.mark.parametrize(
    "change",
    [
        compressed,
        lambda pixels: np.clip((pixels - 0.1) / 0.8, 0, 1),
        lambda pixels: np.ascontiguousarray(pixels[3:-3]),
    ],
)
def test_a_changed_copy_under_another_patient(change: Callable[..., np.ndarray]) -> None:
    pixels = [film(1), film(2), change(film(1))]
    found = {f"i{n}": hash_picture(prepare(one, 256).pixels) for n, one in enumerate(pixels)}
    assert audit([study(n, f"p{n}") for n in range(3)], found) == [
        Finding("similar-picture", ("i0", "i2"))
    ]


@pytest.mark.timeout(600)  # all pairs would take hours
def test_a_hundred_thousand_pictures_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (100_000, 32), np.uint8)
    packed[:5000] = 0  # as of empty pictures
    packed[-1] = packed[60_000] ^ np.array([1, 2, 4, 8, 16, 32, *[0] * 26], np.uint8)
    looks, patients = [one.tobytes().hex() for one in packed], [f"p{n}" for n in range(100_000)]
    patients[:5000] = ["p0"] * 5000
    assert alike(looks, patients) == [[60_000, 99_999]]


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
    assert [str(note) for note in notes if note.code == "same-picture"] == [
        f"dicom/{name}.dcm: as dicom/{other}.dcm"
        for name, other in (("0L", "9L"), ("0R", "9R"), ("9L", "0L"), ("9R", "0R"))
    ]
