"""The site file: mistakes are named, paths count from its folder, and the secret is made once."""

import shutil
import stat
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from client.site.config import load_site
from client.site.ingest import pull_studies
from mama.data.secret import make_secret
from mama.errors import ConfigError, DataError

EXAMPLE = Path(__file__).parents[3] / "configs" / "site.example.yaml"
MINIMAL = """\
site: north
data:
  source: archive
  dataset: dataset
state: state
secret: secret.key
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def put(text: str) -> Path:
        path = tmp_path / "site.yaml"
        path.write_text(text)
        return path

    return put


def test_the_example_is_valid_and_shows_the_defaults(
    tmp_path: Path, write: Callable[[str], Path]
) -> None:
    shutil.copy(EXAMPLE, tmp_path / "example.yaml")
    example, minimal = load_site(tmp_path / "example.yaml"), load_site(write(MINIMAL))
    assert example.policy == minimal.policy
    assert (example.device, example.threads, example.models) == ("auto", None, {})
    assert example.data.adapter == minimal.data.adapter
    assert example.data.test_fraction == minimal.data.test_fraction


def test_relative_paths_count_from_the_files_folder(
    tmp_path: Path, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(MINIMAL + "models: {bert: models/bert, other: /elsewhere}\n")
    monkeypatch.chdir("/")
    site = load_site(path)
    assert site.data.source == tmp_path / "archive"
    assert site.data.dataset == tmp_path / "dataset"
    assert site.state == tmp_path / "state"
    assert site.secret == tmp_path / "secret.key"
    assert site.models == {"bert": tmp_path / "models/bert", "other": Path("/elsewhere")}


def test_the_files_of_the_archive_count_from_there_too(
    tmp_path: Path, write: Callable[[str], Path]
) -> None:
    pacs = "  pacs: {url: 'https://p/d', study_date: [2015-01-01, null], ca: a.crt, credentials: w}"
    site = load_site(write(MINIMAL.replace("  dataset", f"{pacs}\n  dataset")))
    assert site.data.pacs is not None
    assert (site.data.pacs.ca, site.data.pacs.credentials) == (tmp_path / "a.crt", tmp_path / "w")
    assert site.data.pacs.study_date == (date(2015, 1, 1), None)
    secret = write(
        MINIMAL.replace("  dataset", pacs.replace("//p", "//me:hidden@p") + "\n  dataset")
    )
    with pytest.raises(ConfigError, match=r"data.pacs.*no user or password") as caught:
        load_site(secret)
    assert "hidden" not in str(caught.value)


def test_only_a_folder_of_dicom_takes_what_is_pulled(write: Callable[[str], Path]) -> None:
    pacs = "  adapter: mias\n  pacs: {url: 'https://p/d', study_date: [null, null]}\n  dataset"
    site = load_site(write(MINIMAL.replace("  dataset", pacs)))
    with pytest.raises(ConfigError, match="adapter mias does not read what is pulled"):
        pull_studies(site)


def test_a_relative_site_file_gives_absolute_paths(
    tmp_path: Path, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load_site(Path("site.yaml")).state == tmp_path / "state"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("state:", "sate:", "unknown key 'sate' (and 1 more: state). Did you mean 'state'?"),
        ("  source:", "  sorce:", "unknown key 'data.sorce'"),
        ("site: north", "site: '../north'", "key 'site'"),
        ("site: north", "site: ''", "key 'site'"),
        ("state: state", "state: 5", "key 'state': must be a path; put it in quotes (is 5)"),
        ("state: state", "state: state\ndevice: tpu", "key 'device'"),
        ("state: state", "state: state\nthreads: 0", "key 'threads'"),
        ("state: state", "state: state\npolicy: {minimum_cell: 0}", "key 'policy.minimum_cell'"),
        ("  dataset: dataset\n", "", "key 'data.dataset' is missing"),
    ],
)
def test_a_mistake_names_file_and_key(
    write: Callable[[str], Path], old: str, new: str, message: str
) -> None:
    assert old in MINIMAL
    path = write(MINIMAL.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_site(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_key_comes_with_the_nearest(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'max_local_steps'"):
        load_site(write(MINIMAL + "policy: {max_local_step: 3}\n"))


def test_the_secret_is_made_once_for_its_owner_only(write: Callable[[str], Path]) -> None:
    site = load_site(write(MINIMAL))
    first = make_secret(site.secret)
    assert len(first) == 32
    assert stat.S_IMODE(site.secret.stat().st_mode) == 0o600
    assert site.read_secret() == first != make_secret(site.secret)


def test_reading_a_missing_secret_makes_none(write: Callable[[str], Path]) -> None:
    site = load_site(write(MINIMAL))
    with pytest.raises(DataError, match=r"secret.key: .*cannot be read.*Restore it") as error:
        site.read_secret()
    assert "\n" not in str(error.value)
    assert not site.secret.exists()


@pytest.mark.parametrize("length", [0, 1, 31, 33])
def test_a_secret_of_another_length_is_refused(write: Callable[[str], Path], length: int) -> None:
    site = load_site(write(MINIMAL))
    site.secret.write_bytes(b"x" * length)
    with pytest.raises(DataError, match=rf"has {length} bytes, not 32\. Restore it") as error:
        site.read_secret()
    assert str(site.secret) in str(error.value)
    assert site.secret.read_bytes() == b"x" * length
