"""A new site: its own key, its own rights, and a site file that loads."""

import stat
from pathlib import Path

import pytest

from client.daemon import check_pin
from client.enrolment import init_site
from client.service import ServiceFolder
from client.sitefile import load_site
from mama.errors import ConfigError
from mama.signing import read_public_line
from server.certificates import make_authority


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    make_authority("demo", tmp_path / "ca.crt", tmp_path / "ca.key")
    return tmp_path / "ca.crt"


def test_a_new_site_is_whole_and_private(tmp_path: Path, authority: Path) -> None:
    folder = tmp_path / "site"
    public = init_site(folder, "alder", tmp_path / "images", "fl.example.org:443", authority)
    read_public_line(public.read_text())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("node.key", "site.yaml", "ca.crt"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    site = load_site(folder / "site.yaml")
    assert site.data.source == (tmp_path / "images").resolve()
    assert site.coordinator is not None
    assert site.coordinator.key == folder / "node.key"
    assert site.coordinator.certificate == folder / "ca.crt"
    check_pin(ServiceFolder(site))


def test_a_site_is_not_made_twice(tmp_path: Path, authority: Path) -> None:
    arguments = (tmp_path / "site", "alder", tmp_path, "fl.example.org:443", authority)
    init_site(*arguments)
    before = (tmp_path / "site" / "node.key").read_bytes()
    with pytest.raises(ConfigError, match="holds a site already"):
        init_site(*arguments)
    assert (tmp_path / "site" / "node.key").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "address", "message"),
    [("no name!", "a:1", "key 'site'"), ("alder", "https://a", "key 'coordinator.address'")],
)
def test_mistakes_leave_nothing_behind(
    tmp_path: Path, authority: Path, name: str, address: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        init_site(tmp_path / "site", name, tmp_path, address, authority)
    assert not (tmp_path / "site").exists()


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("hello")
    with pytest.raises(ConfigError, match=r"ca.crt: holds no certificate of a federation"):
        init_site(tmp_path / "site", "alder", tmp_path, "a:1", tmp_path / "ca.crt")


def test_another_authority_than_the_pinned_one_is_refused(tmp_path: Path, authority: Path) -> None:
    folder = tmp_path / "site"
    init_site(folder, "alder", tmp_path, "fl.example.org:443", authority)
    make_authority("demo", folder / "ca.crt", tmp_path / "other.key")
    with pytest.raises(ConfigError, match=r"is not the pinned authority.*by telephone"):
        check_pin(ServiceFolder(load_site(folder / "site.yaml")))
