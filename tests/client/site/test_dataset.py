"""Withdrawn patients are left out from the next task on; an unreadable list stops the site."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.site.config import load_site
from client.site.dataset import dataset_of
from client.training.tasks import _pairs
from mama.data.adapters import find
from mama.data.ingest.ids import ids_of
from mama.data.manifest import Dataset
from mama.errors import ConfigError, NoStudiesError


@pytest.fixture
def withdrawing(site_files: Callable[[], list[Path]]) -> Callable[[str], Any]:
    """A site with a list of who withdrew."""
    path = site_files()[0]

    def site(text: str) -> Any:
        settings = yaml.safe_load(path.read_text())
        settings["data"]["withdrawn"] = "withdrawn.txt"
        path.write_text(yaml.safe_dump(settings))
        (path.parent / "withdrawn.txt").write_text(text)
        return load_site(path)

    return site


def test_a_listed_patient_and_a_listed_study_are_gone(
    withdrawing: Callable[[str], Any], small_config: Callable[..., Any]
) -> None:
    site = withdrawing("")
    raw = find(site.data.adapter)(site.data.source).studies
    whole = Dataset(site.data.dataset)
    assert dataset_of(site).manifest == whole.manifest
    patient, study = raw[0].patient, raw[-1].study
    assert raw[-1].patient != patient

    site = withdrawing(f"\ufeff# withdrew in May\n{patient}\n\n  {study} \nnobody\n")
    kept = dataset_of(site).manifest.studies
    gone = {s.id for s in whole.manifest.studies} - {s.id for s in kept}
    of_patient = ids_of(site.read_secret(), patient)
    expected = {s.id for s in whole.manifest.studies if s.patient in of_patient}
    expected |= {s.id for s in whole.manifest.studies if s.id in ids_of(site.read_secret(), study)}
    assert gone == expected
    assert len(gone) >= 2
    trained = {
        s.id for studies in _pairs(site, small_config().experiment()).patients for s in studies
    }
    assert trained.isdisjoint(gone)


def test_a_list_that_is_not_there_stops_the_site(withdrawing: Callable[[str], Any]) -> None:
    site = withdrawing("")
    site.data.withdrawn.unlink()
    with pytest.raises(ConfigError, match="the list of withdrawn patients cannot be read"):
        dataset_of(site)


def test_when_all_withdraw_there_is_nothing_to_train_on(
    withdrawing: Callable[[str], Any], small_config: Callable[..., Any]
) -> None:
    site = withdrawing("")
    raw = find(site.data.adapter)(site.data.source).studies
    site = withdrawing("\n".join(study.study for study in raw))
    with pytest.raises(NoStudiesError):
        _pairs(site, small_config().experiment())
