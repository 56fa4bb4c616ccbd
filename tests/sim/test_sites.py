"""Simulated hospitals as sites: real site files and datasets, made once and reused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.site.config import load_site
from mama.config.load import load
from mama.data.manifest import Dataset
from mama.errors import ConfigError, DataError
from sim.config import SimulatedExperiment
from sim.sites import make_sites

ROOT = Path(__file__).parents[2]


def silent(name: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def mias_config() -> Callable[..., SimulatedExperiment]:
    return lambda *overrides: load(SimulatedExperiment, ROOT / "configs" / "mias.yaml", overrides)


def test_synthetic_sites_hold_what_was_ordered(made_sites: Path, small_config: Any) -> None:
    for name in ("alder", "birch", "cedar"):
        site = load_site(made_sites / "sites" / name / "site.yaml")
        dataset = Dataset(site.data.dataset)
        assert site.site == name
        assert site.policy.minimum_cell == 5
        assert site.data.source == (made_sites / "hospitals" / name).resolve()
        assert dataset.manifest.long_side == max(small_config().image.size)
        for split in ("train", "test"):
            studies = dataset.studies(split)
            assert len(studies) == 8
            assert all(len(study.images) == 4 for study in studies)
            assert all(study.sentences and study.labels.density for study in studies)


def test_no_id_of_a_hospital_is_in_its_dataset(made_sites: Path) -> None:
    for name in ("alder", "birch", "cedar"):
        manifest = (made_sites / "sites" / name / "dataset" / "manifest.json").read_text()
        truth = json.loads((made_sites / "hospitals" / name / "truth.json").read_text())
        assert truth["studies"]
        assert not any(study in manifest for study in truth["studies"])
        assert name.upper() not in manifest


def test_sites_are_made_once(
    made_sites: Path, small_config: Any, make_films: Any, mias_config: Any, tmp_path: Path
) -> None:
    films = make_films()
    first = make_sites(mias_config(), tmp_path / "out", films, silent).files
    secrets = [(path.parent / "secret.key").read_bytes() for path in first.values()]
    manifests = [(path.parent / "dataset/manifest.json").read_bytes() for path in first.values()]
    for path in first.values():
        path.write_text(path.read_text() + "budget: {epsilon: 3}\n")
    again = make_sites(mias_config(), tmp_path / "out", films, silent).files
    # The site file is the hospital's.
    assert {load_site(path).budget.epsilon for path in again.values()} == {3}

    assert list(again) == ["site-1", "site-2", "site-3"]
    for path, secret, manifest in zip(again.values(), secrets, manifests, strict=True):
        assert (path.parent / "secret.key").read_bytes() == secret
        assert (path.parent / "dataset/manifest.json").read_bytes() == manifest
    assert len(set(secrets)) == 3


@pytest.mark.parametrize(
    "text", ["[1, 2]", "site: [alder", "site: alder\n", "a: &x 1\nb: *x\n", "\0"]
)
def test_a_damaged_site_file_is_named_in_one_line(
    mias_config: Any, make_films: Any, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "out/sites/site-1/site.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        make_sites(mias_config(), tmp_path / "out", make_films(), silent)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_text() == text


def test_progress_names_each_stage(make_films: Any, mias_config: Any, tmp_path: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    make_sites(mias_config(), tmp_path, make_films(), lambda *news: progress.append(news))
    last = {name: (done, total) for name, done, total in progress}
    assert last == {"data: images": (12, 12), "dealing patients": (3, 3)}


def test_data_is_wanted_or_not(
    small_config: Any, mias_config: Any, make_films: Any, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match="the simulation quickstart generates the hospitals' data itself"
    ):
        make_sites(small_config(), tmp_path / "a", make_films(), silent)
    with pytest.raises(ConfigError, match="--data: the simulation mias needs a dataset"):
        make_sites(mias_config(), tmp_path / "b", None, silent)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_hospitals_without_patients_are_refused(
    mias_config: Any, make_films: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="patients to train on are too few for 3 hospitals"):
        make_sites(mias_config(), tmp_path / "out", make_films(patients=2), silent)
