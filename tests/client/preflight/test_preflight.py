"""Defects at a site, each named with its remedy, and no complaint about the rest."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.cli import main
from client.preflight import machine
from client.preflight.check import guarded
from client.preflight.data import check_data
from client.preflight.experiment import check_experiment
from client.preflight.machine import check_machine
from client.site.config import load_site
from client.site.dataset import dataset_of
from mama.data.adapters import find
from mama.data.manifest import Dataset, write_manifest
from mama.data.studies import Study
from mama.exchange.signing import write_key_pair
from mama.system.formats import counted
from tests.client.preflight.checks import by_name, change


def test_a_machine_that_will_do(site_file: Path) -> None:
    change(site_file, device="cpu")
    found = by_name(check_machine(load_site(site_file)))
    assert found["device"].verdict == found["rights"].verdict == "PASS"
    assert found.keys() == {"code", "device", "disk", "rights", "shared memory"}


@pytest.mark.parametrize(("free", "verdict"), [(0.5e9, "FAIL"), (5e9, "WARN"), (100e9, "PASS")])
def test_disk(site_file: Path, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(
        machine.shutil, "disk_usage", lambda place: type(usage)(int(1e12), 0, int(free))
    )
    found = by_name(check_machine(load_site(site_file)))["disk"]
    assert found.verdict == verdict
    assert bool(found.remedy) == (verdict != "PASS")


def test_a_device_that_is_not_there(site_file: Path) -> None:
    change(site_file, device="cuda:7")
    assert by_name(check_machine(load_site(site_file)))["device"].verdict == "FAIL"


def test_a_key_that_others_may_read(site_file: Path) -> None:
    folder = site_file.parent
    write_key_pair(folder / "node.key", folder / "node.pub")
    change(site_file, coordinator={"address": "a:1", "pin": "0" * 64})
    assert by_name(check_machine(load_site(site_file)))["rights"].verdict == "PASS"
    (folder / "node.key").rename(folder / "away")
    found = by_name(check_machine(load_site(site_file)))["rights"]
    assert (found.verdict, found.found) == ("FAIL", f"{folder / 'node.key'} does not exist")
    (folder / "away").rename(folder / "node.key")
    (folder / "node.key").chmod(0o644)
    found = by_name(check_machine(load_site(site_file)))["rights"]
    assert (found.verdict, found.remedy) == ("FAIL", f"Run `chmod 600 {folder / 'node.key'}`")


def test_data_that_will_do(site_file: Path) -> None:
    found = by_name(check_data(load_site(site_file)))
    assert {check.verdict for check in found.values()} == {"PASS"}
    assert found["studies"].found == "8 training studies, 8 test studies"


def test_those_who_withdrew(site_file: Path) -> None:
    site = load_site(site_file)
    patient = find(site.data.adapter)(site.data.source).studies[0].patient
    listed = site_file.parent / "withdrawn.txt"
    data = yaml.safe_load(site_file.read_text())["data"]
    change(site_file, data=data | {"withdrawn": "withdrawn.txt"})
    (found,) = guarded("dataset", check_data(load_site(site_file)))
    assert found.verdict == "FAIL"
    assert "the list of withdrawn patients cannot be read" in str(found)
    whole = len(Dataset(site.data.dataset).manifest.studies)
    for text, verdict in ((f"# none\n{patient}\n", "PASS"), (f"{patient}\nnobody\n", "WARN")):
        listed.write_text(text)
        checks = by_name(check_data(load_site(site_file)))
        assert checks["withdrawn"].verdict == verdict
        left = whole - len(dataset_of(load_site(site_file)).manifest.studies)
        assert left >= 1
        assert f"{counted(left, 'study', 'studies')} excluded" in checks["withdrawn"].found
    assert "1 line without a match in the dataset: 2" in checks["withdrawn"].found
    assert "nobody\n" not in str(checks["withdrawn"])


def test_no_dataset(site_file: Path) -> None:
    shutil.rmtree(site_file.parent / "dataset")
    (found,) = guarded("dataset", check_data(load_site(site_file)))
    assert found.verdict == "FAIL"
    assert "no such folder" in found.found
    assert "mama-site ingest" in found.remedy


def test_a_damaged_image(site_file: Path) -> None:
    for path in (site_file.parent / "dataset" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    *_, found = guarded("dataset", check_data(load_site(site_file)))
    assert found.verdict == "FAIL"
    assert "cached image is missing or damaged" in found.found


@pytest.mark.parametrize(
    ("study", "name", "verdict"),
    [
        ({"sentences": ()}, "reports", "FAIL"),
        ({"labels": {"density": None, "suspicious": None}}, "labels", "WARN"),
        ({"split": "test"}, "studies", "FAIL"),
    ],
)
def test_a_dataset_that_lacks_something(
    site_file: Path, study: dict[str, Any], name: str, verdict: str
) -> None:
    folder = site_file.parent / "dataset"
    manifest = Dataset(folder).manifest
    changed = [Study.model_validate(s.model_dump() | study) for s in manifest.studies]
    write_manifest(folder, manifest.model_copy(update={"studies": changed}))
    assert by_name(check_data(load_site(site_file)))[name].verdict == verdict


def test_a_source_that_changed(site_file: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    settings = yaml.safe_load(site_file.read_text())
    change(site_file, data=settings["data"] | {"source": str(source)})
    later = time.time() + 100
    os.utime(source, (later, later))
    found = by_name(check_data(load_site(site_file)))["source"]
    assert (found.verdict, found.remedy) == ("WARN", "Run `mama-site ingest`")
    source.rmdir()
    assert by_name(check_data(load_site(site_file)))["source"].verdict == "WARN"


def test_an_experiment_is_tried(site_file: Path, small_config: Callable[..., Any]) -> None:
    change(site_file, threads=1, policy={"min_cohort": 3})
    found = by_name(check_experiment(load_site(site_file), small_config().experiment()))
    assert found["policy min_cohort"].verdict == "FAIL"
    assert found["base models"].verdict == found["one step"].verdict == "PASS"


def test_an_experiment_larger_than_the_cache(
    site_file: Path, small_config: Callable[..., Any]
) -> None:
    larger = small_config("image.size=[192, 128]").experiment()
    *_, found = guarded("experiment", check_experiment(load_site(site_file), larger))
    assert found.verdict == "FAIL"
    assert "--long-side 192" in found.remedy


def test_the_command_prints_a_line_a_check_and_fails(
    site_file: Path, command: Callable[..., Any]
) -> None:
    ended = command(main, "check", site_file)
    assert ended.code == 1
    assert "PASS  studies: 8 training studies" in ended.out
    assert "FAIL  coordinator: site alder: key 'coordinator' is missing. Add it" in ended.out
