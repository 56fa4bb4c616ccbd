"""A new site: its own key, its own rights, and a site file that loads."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.identity.enrolment import authority_key, init_site, new_key_pair, own_key, pinned_key
from client.site.config import load_site
from mama.errors import ConfigError
from mama.exchange.signing import fingerprint, public_line, read_public_line
from server.cli import main as server_main
from server.federation.certificates import make_authority


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
    assert pinned_key(site.coordinator) == authority_key(authority)


def test_a_site_is_not_made_twice(tmp_path: Path, authority: Path) -> None:
    arguments = (tmp_path / "site", "alder", tmp_path, "fl.example.org:443", authority)
    init_site(*arguments)
    before = (tmp_path / "site" / "node.key").read_bytes()
    with pytest.raises(ConfigError, match="holds a site already"):
        init_site(*arguments)
    assert (tmp_path / "site" / "node.key").read_bytes() == before


def test_a_new_key_pair_leaves_all_else(tmp_path: Path, authority: Path) -> None:
    folder = tmp_path / "site"
    init_site(folder, "alder", tmp_path, "fl.example.org:443", authority)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    public = new_key_pair(folder / "node.key")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.pop("node.key.before") == before.pop("node.key") != after.pop("node.key")
    assert after.pop("node.pub.before") == before.pop("node.pub") != after.pop("node.pub")
    assert after == before
    assert public_line(own_key(folder / "node.key").public_key()) == public.read_text().strip()
    assert stat.S_IMODE((folder / "node.key").stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="is no private key"):
        own_key(folder / "gone.key")


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
    with pytest.raises(
        ConfigError, match=r"ca.crt: does not hold the one certificate of a federation"
    ):
        init_site(tmp_path / "site", "alder", tmp_path, "a:1", tmp_path / "ca.crt")


def test_another_authority_than_the_pinned_one_is_refused(tmp_path: Path, authority: Path) -> None:
    folder = tmp_path / "site"
    init_site(folder, "alder", tmp_path, "fl.example.org:443", authority)
    make_authority("demo", folder / "ca.crt", tmp_path / "other.key")
    coordinator = load_site(folder / "site.yaml").coordinator
    assert coordinator is not None
    with pytest.raises(ConfigError, match=r"is not the pinned authority.*by telephone"):
        pinned_key(coordinator)


def test_both_sides_print_the_fingerprint_of_the_sites_key(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    """What is enrolled came by mail, where it could have been exchanged."""
    (tmp_path / "federation.yaml").write_text("name: demo\naddress: fl.example.org:8443\n")
    assert command(server_main, "provision", tmp_path / "federation.yaml").code == 0
    (tmp_path / "archive").mkdir()
    site = tmp_path / "site"
    options = (
        "--site",
        "alder",
        "--source",
        tmp_path / "archive",
        "--address",
        "fl.example.org:8443",
    )
    authority = ("--certificate", tmp_path / "state" / "ca.crt")
    made = command(main, "init", site, *options, *authority)
    digest = fingerprint(read_public_line((site / "node.pub").read_text()))
    assert f"its fingerprint, as `mama-server enrol` prints it: {digest}" in made.out
    given = ("alder", site / "node.pub", "--federation", tmp_path / "federation.yaml")
    enrolled = command(server_main, "enrol", *given)
    assert f"compare this fingerprint of alder's key by telephone: {digest}" in enrolled.out
