"""Hospitals of one dataset, ingested or raw: nothing decoded twice, pseudonyms of their own."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.site.config import load_site
from client.site.dataset import dataset_of
from mama.config.load import load
from mama.data.adapters import ADAPTERS
from mama.data.ingest.audit import audit_dataset
from mama.data.manifest import Dataset, write_manifest
from mama.errors import ConfigError, DataError
from sim.cli import main
from sim.config import Layout, SimulatedExperiment
from sim.dealing import dataset as dealing
from sim.sites import Sites, make_sites

ROOT = Path(__file__).parents[3]
OWN = ROOT / "configs" / "own_data.yaml"
SMALL = [
    "image.options={patch_size: 4, embed_dim: 32, depth: 1, num_heads: 2}",
    "text.layers=1",
    "heads={embedding: 32, view_hidden: 32, local_hidden: 32}",
    "optimiser.batch_size=4",
    "federation={rounds: 1, local_steps: 1}",
    "participation.quorum=2",
    "simulation.sites=2",
]


def config(*overrides: str) -> SimulatedExperiment:
    return load(SimulatedExperiment, OWN, [*SMALL, *overrides])


def dealt(data: Path | None, out: Path, *overrides: str) -> Sites:
    return make_sites(config(*overrides), out, data, lambda *_: None)


def datasets(sites: Sites) -> list[Dataset]:
    return [dataset_of(load_site(path)) for path in sites.files.values()]


@pytest.fixture
def ingested(made_sites: Path) -> Path:
    return made_sites / "sites" / "alder" / "dataset"


def test_an_ingested_dataset_is_dealt_without_decoding(ingested: Path, tmp_path: Path) -> None:
    whole = Dataset(ingested)
    sites = dealt(ingested, tmp_path / "out")
    assert (list(sites.files), sites.remarks) == (["site-1", "site-2"], [])
    found = datasets(sites)
    assert [len(one.studies("train")) for one in found] == [4, 4]
    assert [len(one.studies("test")) for one in found] == [4, 4]
    inodes = {whole.image_path(i).stat().st_ino for s in whole.manifest.studies for i in s.images}
    used = [
        one.image_path(image).stat().st_ino
        for one in found
        for study in one.manifest.studies
        for image in study.images
    ]
    assert sorted(used) == sorted(inodes)
    reports = sorted(study.texts() for one in found for study in one.manifest.studies)
    assert reports == sorted(study.texts() for study in whole.manifest.studies)
    assert not any(audit_dataset(one) for one in found)
    assert not (tmp_path / "out" / "pool").exists()


def test_each_hospital_has_its_own_pseudonyms(ingested: Path, tmp_path: Path) -> None:
    sites = dealt(ingested, tmp_path / "out")
    own = (ingested / "manifest.json").read_text()
    for path in sites.files.values():
        text = (path.parent / "dataset" / "manifest.json").read_text()
        manifest = Dataset(path.parent / "dataset").manifest
        ids = [study.id for study in manifest.studies]
        ids += [study.patient for study in manifest.studies]
        ids += [image.id for study in manifest.studies for image in study.images]
        assert not any(id in own for id in ids)
        assert manifest.key_check not in own
        assert manifest.key_check in text
    keys = {(path.parent / "secret.key").read_bytes() for path in sites.files.values()}
    assert len(keys) == 2
    assert not keys & {(ingested.parent / "secret.key").read_bytes()}


def test_dealing_again_changes_nothing_and_otherwise_leaves_nothing(
    ingested: Path, tmp_path: Path
) -> None:
    def pictures(folder: Path) -> set[str]:
        return {path.name for path in folder.rglob("*.npy")}

    first = dealt(ingested, tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("*"))
    before = {path: path.read_bytes() for path in files if path.is_file()}
    dealt(ingested, tmp_path / "out")
    assert {path: path.read_bytes() for path in before} == before
    assert sorted((tmp_path / "out").rglob("*")) == files
    dealt(ingested, tmp_path / "out", "seed=1")
    for path in first.files.values():
        own = Dataset(path.parent / "dataset").manifest.studies
        images = {f"{image.id}.npy" for study in own for image in study.images}
        assert pictures(path.parent) == images


def test_pictures_are_copied_where_links_are_impossible(
    ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    found = datasets(dealt(ingested, tmp_path / "out"))
    monkeypatch.setattr(dealing.shutil, "copy2", refuse)
    dealt(ingested, tmp_path / "out")  # they are not copied again
    whole = Dataset(ingested)
    pixels = {whole.pixels(i).tobytes() for s in whole.manifest.studies for i in s.images}
    for one in found:
        for study in one.manifest.studies:
            for image in study.images:
                assert one.image_path(image).stat().st_nlink == 1
                assert one.pixels(image).tobytes() in pixels


def test_a_raw_folder_is_ingested_once_and_alike(
    make_films: Callable[..., Path], tmp_path: Path
) -> None:
    films, mias = make_films(), "simulation.source=mias"
    sites = dealt(films, tmp_path / "out", mias, "simulation.test_fraction=0.4")
    found = [one.manifest for one in datasets(sites)]
    assert sum(len(manifest.studies) for manifest in found) == 6
    assert {study.labels.density for one in found for study in one.studies} == {"F", "G", "D"}
    assert sites.remarks == []
    again = datasets(dealt(films, tmp_path / "again", mias, "simulation.test_fraction=0.4"))
    assert [one.manifest for one in again] == found
    (films / "png" / "mdb012.png").unlink()
    with pytest.raises(DataError, match=r"out: was created from another dataset"):
        dealt(films, tmp_path / "out", mias, "simulation.test_fraction=0.4")


@pytest.mark.parametrize("name", ["raw", "licensed"])
def test_one_round(  # about 5 s each: a whole run
    ingested: Path, made_sites: Path, tmp_path: Path, command: Callable[..., Any], name: str
) -> None:
    data, out = tmp_path / "raw", tmp_path / "out"
    if name == "raw":  # eight of its studies
        hospital = made_sites / "hospitals" / "alder"
        data.mkdir()
        shutil.copy(hospital / "reports.csv", data)
        for folder in sorted((hospital / "dicom").iterdir())[::2]:
            shutil.copytree(folder, data / "dicom" / folder.name)
    else:  # as the adapter of EMBED presets it
        data = tmp_path / "licensed"
        shutil.copytree(ingested, data)
        changes = {"share_weights": False}
        write_manifest(data, Dataset(ingested).manifest.model_copy(update=changes))
    sets = [part for override in SMALL for part in ("--set", override)]
    ended = command(main, "run", OWN, "--data", data, "--out", out, *sets)
    assert ended.code == 0, ended.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["status"], metrics["problems"]) == ("finished", [])
    assert metrics["sites"] == ["site-1", "site-2"]
    card = (out / "final" / "README.md").read_text()
    assert ("does not allow weights to be shared" in card) == (name == "licensed")
    said = "the licence of this data lets no weights be shared" in ended.err + ended.out
    assert said == (name == "licensed")


def test_data_that_is_neither_is_one_line(
    ingested: Path, tmp_path: Path, make_films: Callable[..., Path]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("nothing")
    damaged = tmp_path / "damaged"
    shutil.copytree(ingested, damaged)
    (damaged / "manifest.json").write_text("{}")
    for data, overrides, message in (
        (empty, [], "holds no ingested dataset, and read as dicom_folder: reports.csv is missing"),
        (empty, ["simulation.source=mias"], "and read as mias: no studies"),
        (tmp_path / "nowhere", [], "no such folder"),
        (damaged, [], "the manifest is damaged"),
        (ingested, ["image.size=[192, 128]"], "was ingested at 96 pixels"),
        (ingested, ["simulation.sites=9"], "8 patients to train on are too few for 9 hospitals"),
        (make_films(), ["simulation.source=mias", "simulation.deal.by=vendor"], "no image states"),
    ):
        with pytest.raises((DataError, ConfigError)) as error:
            dealt(data, tmp_path / "out", *overrides)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_every_adapter_is_a_source() -> None:
    assert set(Layout.__args__) == set(ADAPTERS)
