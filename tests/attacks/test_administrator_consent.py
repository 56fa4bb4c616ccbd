"""Loss or replacement of the pseudonym key: no withdrawn patient may be trained on again."""

import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from client.cli import main
from client.handlers import answer
from client.site.config import SiteFile, load_site
from client.site.dataset import dataset_of, withdrawal_of
from client.site.ingest import prepare
from mama.config import Experiment
from mama.data.adapters import find
from mama.data.ingest.ids import ids_of
from mama.data.manifest import Dataset
from mama.data.secret import make_secret
from mama.errors import ConfigError, DataError
from mama.exchange.codecs.coding import encode
from mama.exchange.protocol import Task
from mama.exchange.tensors import trained_arrays
from mama.model import build_model


@pytest.fixture
def site(site_files: Callable[[], list[Path]]) -> SiteFile:
    """A site of 16 studies, five patients of which withdrew."""
    path = site_files()[0]
    settings = yaml.safe_load(path.read_text())
    settings["data"]["withdrawn"] = "withdrawn.txt"
    path.write_text(yaml.safe_dump(settings))
    source = load_site(path).data
    patients = sorted({s.patient for s in find(source.adapter)(source.source).studies})
    (path.parent / "withdrawn.txt").write_text("\n".join(patients[:5]) + "\n")
    return load_site(path)


def remove(site: SiteFile) -> None:
    site.secret.unlink()


def replace(site: SiteFile) -> None:
    make_secret(site.secret)


def truncate(site: SiteFile) -> None:
    site.secret.write_bytes(site.secret.read_bytes()[:16])


def empty(site: SiteFile) -> None:
    site.secret.write_bytes(b"")


def of_another_site(site: SiteFile) -> None:
    other = site.secret.parent.parent / "birch" / "secret.key"
    site.secret.write_bytes(other.read_bytes())


DAMAGE = [remove, replace, truncate, empty, of_another_site]


@pytest.mark.parametrize("damage", DAMAGE)
def test_without_its_key_a_site_does_nothing(
    site: SiteFile, small_config: Callable, damage: Callable, command: Callable
) -> None:
    experiment: Experiment = small_config().experiment()
    before = {path: path.read_bytes() for path in site.secret.parent.glob("dataset/manifest.json")}
    damage(site)
    kept = site.secret.read_bytes() if site.secret.exists() else None
    payload = encode(trained_arrays(build_model(experiment)))
    for kind in ("describe", "train", "evaluate"):
        task = Task(
            run="r",
            round=1,
            task=f"{kind}-1",
            kind=kind,
            experiment=experiment.canonical_json(),
            experiment_hash=experiment.hash(),
        )
        assert answer(site, task.encode(), payload)[0].status == "no_data"
    for work in (dataset_of, withdrawal_of, lambda site: prepare(site, 96)):
        with pytest.raises(DataError) as error:
            work(site)
        assert "\n" not in str(error.value)
        assert "estore" in str(error.value)
    ended = command(main, "ledger", site.secret.parent / "site.yaml")
    assert ended.code != 0
    assert "Traceback" not in ended.err
    # Nothing made a key in passing, nor touched the dataset.
    assert (site.secret.read_bytes() if site.secret.exists() else None) == kept
    assert {path: path.read_bytes() for path in before} == before


def test_the_attack_works_where_the_key_is_not_checked(
    site: SiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = len(Dataset(site.data.dataset).manifest.studies)
    left_out = whole - len(dataset_of(site).manifest.studies)
    assert left_out >= 5
    monkeypatch.setattr(Dataset, "require_key", lambda *_: None)
    replace(site)
    assert len(dataset_of(site).manifest.studies) == whole


def test_a_new_key_for_a_dataset_that_is_new(site: SiteFile) -> None:
    before = len(dataset_of(site).manifest.studies)
    remove(site)
    (site.data.dataset / "manifest.json").unlink()
    prepare(site, 96)
    assert site.secret.stat().st_mode & 0o777 == 0o600
    assert len(dataset_of(site).manifest.studies) == before


@pytest.mark.parametrize(
    "content", [None, b"\xff\xfeA\0l\0i\0c\0e\0", b"A\0l\0i\0c\0e\0", "Zo\xeb".encode("latin-1")]
)
def test_a_list_that_cannot_be_read_stops_the_site(site: SiteFile, content: bytes | None) -> None:
    assert site.data.withdrawn
    site.data.withdrawn.unlink()
    if content is not None:
        site.data.withdrawn.write_bytes(content)
    with pytest.raises(ConfigError, match="the list of withdrawn patients cannot be read"):
        dataset_of(site)


@pytest.mark.parametrize("change", ["bom", "crlf", "blanks", "plain"])
def test_a_list_typed_on_another_machine(site: SiteFile, change: str) -> None:
    assert site.data.withdrawn
    expected = dataset_of(site).manifest
    text = site.data.withdrawn.read_text()
    changed = {
        "bom": "\ufeff" + text,
        "crlf": text.replace("\n", "\r\n"),
        "blanks": text.replace("\n", " \t\n\n"),
        "plain": text.rstrip("\n"),
    }[change]
    site.data.withdrawn.write_bytes(changed.encode())
    assert dataset_of(site).manifest == expected


def test_a_name_is_found_in_whatever_form_it_is_written() -> None:
    forms = {unicodedata.normalize(form, "Zoë Müller") for form in ("NFC", "NFD")}
    assert len(forms) == 2
    assert len({frozenset(ids_of(b"k", name)) for name in forms}) == 1


def test_lines_that_name_nobody_are_logged_without_the_names(
    site: SiteFile, caplog: pytest.LogCaptureFixture
) -> None:
    assert site.data.withdrawn
    with site.data.withdrawn.open("a") as file:
        file.write("# a comment\nMARY^SMITH\n")
    with caplog.at_level(logging.WARNING, "fedmama.client"):
        dataset_of(site)
    assert "1 line without a match in the dataset: 7" in caplog.text
    assert "MARY" not in caplog.text
