"""Hospitals on disk: real DICOM in three manners, exact shares of labels, reproducible."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from mama.data.dicom.header import read_header
from mama.data.dicom.pixels import read_pixels
from sim.synthetic.hospitals import COMPLETE, SITES, make_hospitals, shares
from sim.synthetic.phantom import HEIGHT, WIDTH, Mammogram, make_phantom
from sim.synthetic.vendors import VENDORS, Vendor, stored_values, uid, write_mammogram

TRAIN, TEST = 4, 4


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospitals")
    make_hospitals(folder, seed=11, train_studies=TRAIN, test_studies=TEST)
    return folder


@pytest.fixture(scope="module")
def mammogram() -> Mammogram:
    return make_phantom(np.random.default_rng(2), "C", {"L": True, "R": False}).images[1]


def write(path: Path, image: Mammogram, vendor: Vendor) -> pydicom.Dataset:
    rng = np.random.default_rng(0)
    ids = {"study": uid(1, "s"), "series": uid(1, "e"), "instance": uid(1, "i")}
    write_mammogram(path, image, vendor, rng, patient="P-1", **ids)
    return pydicom.dcmread(path)


def rows(folder: Path, site: str) -> list[dict[str, str]]:
    with open(folder / site / "reports.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_depend_on_the_seed_alone(hospitals: Path, tmp_path: Path) -> None:
    make_hospitals(tmp_path / "two", seed=11, train_studies=TRAIN, test_studies=TEST, processes=2)
    assert digests(hospitals) == digests(tmp_path / "two")
    make_hospitals(tmp_path / "other", seed=12, train_studies=1, test_studies=0)
    assert not set(digests(hospitals).values()) & set(digests(tmp_path / "other").values())


def test_complete_hospitals_are_kept_and_broken_ones_remade(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def make(seed: int = 1) -> list[tuple[int, int]]:
        done.clear()
        make_hospitals(
            tmp_path,
            seed=seed,
            train_studies=1,
            test_studies=0,
            progress=lambda made, total: done.append((made, total)),
        )
        return list(done)

    assert make() == [(1, 3), (2, 3), (3, 3)]
    before = digests(tmp_path)
    assert make() == []
    (tmp_path / COMPLETE).unlink()
    next(tmp_path.rglob("*.dcm")).write_bytes(b"torn")
    assert len(make()) == 3
    assert digests(tmp_path) == before
    assert len(make(seed=2)) == 3


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_site_holds_its_studies(hospitals: Path, site) -> None:  # type: ignore[no-untyped-def]
    files = sorted((hospitals / site.name / "dicom").rglob("*.dcm"))
    headers = [read_header(path) for path in files]
    assert len(files) == 4 * (TRAIN + TEST)
    assert len({header.image for header in headers}) == len(files)
    assert {header.vendor for header in headers} == {site.vendor.manufacturer}
    table = rows(hospitals, site.name)
    assert {row["study"] for row in table} == {header.study for header in headers}
    assert Counter(row["split"] for row in table) == {"train": TRAIN, "test": TEST}
    views = Counter((header.study, header.laterality, header.view) for header in headers)
    assert set(views.values()) == {1}
    assert len(views) == len(files)


def test_truth_agrees_with_the_table(hospitals: Path) -> None:
    for site in SITES:
        truth = json.loads((hospitals / site.name / "truth.json").read_text())["studies"]
        for row in rows(hospitals, site.name):
            study = truth[row["study"]]
            assert study["density"] == row["density"]
            for side, column in (("L", "suspicious_left"), ("R", "suspicious_right")):
                lesions = [
                    lesion
                    for image in study["images"].values()
                    if image["laterality"] == side
                    for lesion in image["lesions"]
                ]
                found = any(lesion["kind"] in ("spiculated", "cluster") for lesion in lesions)
                assert found == (row[column] == "1")
                for left, top, right, bottom in (lesion["box"] for lesion in lesions):
                    assert 0 <= left < right <= WIDTH
                    assert 0 <= top < bottom <= HEIGHT


@pytest.mark.parametrize("name", VENDORS)
def test_a_file_says_what_it_holds(name: str, mammogram: Mammogram, tmp_path: Path) -> None:
    vendor = VENDORS[name]
    dataset = write(tmp_path / "image.dcm", mammogram, vendor)
    assert (dataset.Modality, dataset.PresentationIntentType) == ("MG", "FOR PRESENTATION")
    assert (dataset.ImageLaterality, dataset.ViewPosition) == ("L", "MLO")
    assert (dataset.Rows, dataset.Columns) == (HEIGHT, WIDTH)
    assert (dataset.BitsAllocated, dataset.BitsStored) == (16, vendor.bits)
    assert dataset.Manufacturer == vendor.manufacturer
    assert dataset.PatientID == "P-1"
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == uid(1, "i")
    assert ("WindowCenter" in dataset) == vendor.windowed
    assert (dataset.file_meta.TransferSyntaxUID == RLELossless) == vendor.compressed
    stored = stored_values(mammogram.pixels, vendor, np.random.default_rng(0))
    np.testing.assert_array_equal(pixel_array(dataset), stored)
    assert stored.max() < 2**vendor.bits


@pytest.mark.parametrize("name", VENDORS)
def test_displayed_values_follow_the_phantom(
    name: str, mammogram: Mammogram, tmp_path: Path
) -> None:
    write(tmp_path / "image.dcm", mammogram, VENDORS[name])
    shown = read_pixels(tmp_path / "image.dcm")
    assert np.corrcoef(shown.ravel(), mammogram.pixels.ravel())[0, 1] > 0.95


def test_monochrome1_is_stored_upside_down(mammogram: Mammogram) -> None:
    vendor = VENDORS["orbis"]
    assert vendor.monochrome1
    stored = stored_values(mammogram.pixels, vendor, np.random.default_rng(0)).astype(float)
    assert np.corrcoef(stored.ravel(), mammogram.pixels.ravel())[0, 1] < -0.95


def test_the_sites_differ_as_promised() -> None:
    vendors = [site.vendor for site in SITES]
    assert sum(vendor.monochrome1 for vendor in vendors) == 1
    assert sum(vendor.compressed for vendor in vendors) == 1
    assert len({vendor.manufacturer for vendor in vendors}) == len({s.style for s in SITES}) == 3
    assert len({site.density for site in SITES}) == len({site.suspicious for site in SITES}) == 3


def test_shares_are_exact_whatever_the_seed() -> None:
    for seed in range(20):
        drawn = shares(np.random.default_rng(seed), (0.25,) * 4, 70)
        assert sorted(Counter(drawn.tolist()).values()) == [17, 17, 18, 18]
        assert shares(np.random.default_rng(seed), (0.72, 0.28), 140).sum() == 39


def test_default_test_sets_are_large_enough() -> None:
    """420 breasts at three sites, at least 100 of them suspicious."""
    assert 3 * shares(np.random.default_rng(0), (0.72, 0.28), 140).sum() >= 100
