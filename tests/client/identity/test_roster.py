"""Roster at a site: from the pinned authority, never older, never two of one version."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.cli import main
from client.errors import RefusedError
from client.handlers import answer
from client.identity.enrolment import own_key
from client.identity.roster import read_roster, take_roster
from client.site.config import SiteFile, load_site
from mama.errors import ConfigError, IntegrityError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from mama.exchange.roster import Member, Roster
from mama.exchange.signing import public_line
from tests.client.authority import Authority


@pytest.fixture
def site(federation: Authority, tmp_path: Path) -> SiteFile:
    return federation.site(tmp_path / "site")


def kept(site: SiteFile) -> Path:
    assert site.coordinator is not None
    return site.state / "service" / "rosters" / f"{site.coordinator.pin}.json"


def refused(site: SiteFile, signed: str) -> None:
    before = kept(site).read_bytes() if kept(site).exists() else None
    with pytest.raises(RefusedError) as error:
        take_roster(site, signed)
    assert error.value.code == ErrorCode.ROSTER
    assert (kept(site).read_bytes() if kept(site).exists() else None) == before


def test_the_newest_roster_is_kept_and_read(federation: Authority, site: SiteFile) -> None:
    assert read_roster(site) is None
    for version, names in ((1, ["alder"]), (2, ["alder", "birch"]), (7, ["birch"])):
        take_roster(site, federation.signed(version, *names))
        assert read_roster(site) == federation.roster(version, *names)
    take_roster(site, None)  # a task without one changes nothing
    assert read_roster(site) == federation.roster(7, "birch")


def test_the_same_again_is_let_be(federation: Authority, site: SiteFile) -> None:
    take_roster(site, federation.signed(2, "alder"))
    before = kept(site).read_bytes()
    take_roster(
        site, federation.signed(2, "alder")
    )  # ECDSA signs the same in another way each time
    assert kept(site).read_bytes() == before


def test_an_older_one_is_refused(
    federation: Authority, site: SiteFile, caplog: pytest.LogCaptureFixture
) -> None:
    take_roster(site, federation.signed(2, "alder"))
    with caplog.at_level(logging.ERROR, "fedmama.client"):
        refused(site, federation.signed(1, "alder", "birch"))
    assert "site alder: the roster's version 1 is older than version 2 seen before" in caplog.text


def test_two_of_one_version_are_refused(federation: Authority, site: SiteFile) -> None:
    take_roster(site, federation.signed(2, "alder"))
    refused(site, federation.signed(2, "alder", "birch"))


def test_another_authority_is_refused(
    federation: Authority, site: SiteFile, tmp_path: Path
) -> None:
    refused(site, Authority(tmp_path / "other").signed(1, "alder"))
    take_roster(site, federation.signed(1, "alder"))
    refused(site, Authority(tmp_path / "third").signed(2, "alder"))


def test_another_certificate_beside_the_site_file_does_not_help(
    site: SiteFile, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    assert site.coordinator is not None
    site.coordinator.certificate.write_bytes(other.certificate.read_bytes())
    with pytest.raises(ConfigError, match="is not the pinned authority"):
        take_roster(site, other.signed(1, "alder"))
    assert not kept(site).exists()


def test_a_site_that_changes_its_federation_begins_anew(
    federation: Authority, site: SiteFile, tmp_path: Path
) -> None:
    take_roster(site, federation.signed(9, "alder"))
    other = Authority(tmp_path / "other")
    moved = other.site(tmp_path / "moved", state=str(site.state))
    assert read_roster(moved) is None
    take_roster(moved, other.signed(1, "alder"))
    assert read_roster(moved) == other.roster(1, "alder")
    assert read_roster(site) == federation.roster(9, "alder")


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{}"])
def test_a_damaged_copy_is_no_reason_to_take_an_older_one(
    federation: Authority, site: SiteFile, damage: bytes
) -> None:
    take_roster(site, federation.signed(2, "alder"))
    kept(site).write_bytes(damage)
    with pytest.raises(IntegrityError, match="changed or damaged"):
        take_roster(site, federation.signed(1, "alder"))
    assert kept(site).read_bytes() == damage


@given(st.text(max_size=100) | st.tuples(st.integers(0, 400), st.integers(2, 100)))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_comes_the_copy_stays(
    federation: Authority, site: SiteFile, noise: str | tuple[int, int]
) -> None:
    take_roster(site, federation.signed(3, "alder"))
    if isinstance(noise, tuple):
        good = federation.signed(4, "alder", "birch")
        place = noise[0] % len(good)
        noise = good[:place] + good[place + noise[1] :]
    refused(site, noise)


def test_a_site_of_a_simulation_has_none(site_file: Path, federation: Authority) -> None:
    simulated = load_site(site_file)
    take_roster(simulated, federation.signed(1, "alder"))
    assert read_roster(simulated) is None


@pytest.fixture
def member(site_file: Path, federation: Authority, edit: Callable[..., Path]) -> SiteFile:
    """The ingested hospital as a member of the federation."""
    made = federation.site(site_file.parent / "member")
    assert made.coordinator is not None
    return load_site(edit(coordinator=made.coordinator.model_dump(mode="json")))


@pytest.mark.parametrize("kind", ["describe", "train"])
def test_a_task_brings_it_and_a_bad_one_is_answered_by_a_code(
    member: SiteFile,
    federation: Authority,
    make_task: Callable[..., Task],
    payload: bytes,
    tmp_path: Path,
    kind: str,
) -> None:
    header = make_task(kind, roster=federation.signed(2, "alder", "birch")).encode()
    reply, _ = answer(member, header, payload)
    assert reply.status == "ok"
    assert read_roster(member) == federation.roster(2, "alder", "birch")
    for bad in (federation.signed(1), Authority(tmp_path / "other").signed(3), "{}", ""):
        reply, _ = answer(member, make_task(kind, roster=bad).encode(), payload)
        assert reply.status == ErrorCode.ROSTER
        assert reply.description is reply.training is None


def test_status_says_who_takes_part(
    command: Callable[..., object], federation: Authority, site: SiteFile
) -> None:
    path = site.state.parent / "site.yaml"
    assert "roster" not in command(main, "status", path).out
    take_roster(site, federation.signed(4, "alder", "birch"))
    lines = command(main, "status", path).out.splitlines()
    assert lines[1] == "demo, roster version 4: alder (share 1), birch (share 1)"
    (line,) = command(main, "status", path, "--json").out.splitlines()
    assert json.loads(line)["roster"] == {"version": 4, "shares": {"alder": 1.0, "birch": 1.0}}


def test_a_site_whose_key_is_enrolled_under_another_name_does_nothing(
    federation: Authority, site: SiteFile, caplog: pytest.LogCaptureFixture
) -> None:
    assert site.coordinator is not None
    key = public_line(own_key(site.coordinator.key).public_key())
    for version, name in ((1, "oak"), (2, "alder")):
        roster = Roster(
            federation="demo", version=version, members=(Member(site=name, public_key=key),)
        )
        signed = federation.seal(roster)
        if name == "alder":
            take_roster(site, signed)
        else:
            with pytest.raises(RefusedError) as refused:
                take_roster(site, signed)
            assert refused.value.code == ErrorCode.ROSTER
            assert "site alder: the coordinator enrolled this key as 'oak'" in caplog.text
        assert read_roster(site) == roster
