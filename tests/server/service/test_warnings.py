"""Warnings of `mama-server status`: each when it is true, and none when all is well."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.exchange.signing import write_key_pair
from server.cli import main
from server.federation.home import Home
from server.federation.provision import provision
from server.federation.roster import enrol
from server.report.status import status
from server.run.folder import RunFolder
from server.service import warnings as module
from server.service.jobs import JobFile
from server.service.warnings import warnings, warnings_at_start
from tests.certificates import make_server_certificate
from tests.server.faults import Fault, World
from tests.server.report.test_status import DONE, ROSTER, START, closed, run_of


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "federation.yaml").write_text("name: demo\naddress: fl.example.org:8443\n")
    made = Home(tmp_path / "federation.yaml")
    provision(made)
    made.jobs.mkdir()
    return made


def certify(home: Home, days: float) -> None:
    make_server_certificate(
        ["localhost"], days, home.ca_certificate, home.ca_key, home.certificate, home.key
    )


def of(run: Path, home: Home | None = None) -> list[str]:
    return warnings(run, status(run), home)


def test_all_is_well(tmp_path: Path, home: Home) -> None:
    run = run_of(tmp_path / "run", START, ROSTER, closed(1, alder=1, birch=1, cedar=1))
    assert of(run) == of(run, home) == []


@pytest.mark.parametrize(
    ("days", "lines"),
    [
        (31, []),
        (12.2, ["the server's certificate ends in 12 days; run `mama-server renew`"]),
        (-0.01, ["the server's certificate has expired; run `mama-server renew`"]),
    ],
)
def test_the_certificate(tmp_path: Path, home: Home, days: float, lines: list[str]) -> None:
    certify(home, days)
    for end in ([], [DONE]):
        run = run_of(tmp_path / f"run{len(end)}", START, ROSTER, *end)
        assert of(run, home) == lines


def test_the_service_and_those_who_never_came(tmp_path: Path, home: Home) -> None:
    for site in ("alder", "dogwood"):
        write_key_pair(tmp_path / f"{site}.key", tmp_path / f"{site}.pub")
        enrol(home, site, tmp_path / f"{site}.pub")
    run = run_of(tmp_path / "run", START, ROSTER)
    assert of(run, home) == []  # nobody asked this federation for it
    JobFile(home, run).ask()
    service = "the service is not running; start it with `mama-server start`"
    assert of(run, home) == [service]  # they may be about to come
    run_of(run, closed(1, alder=1.0, birch=1.0, cedar=1.0) | {"missing": []})
    assert of(run, home) == [service, "dogwood: enrolled, but never there in this run"]


@pytest.mark.parametrize(("free", "warned"), [(200, False), (199, True)])
def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, warned: bool) -> None:
    run = run_of(tmp_path / "run", START, ROSTER)
    for number, size in ((1, 100), (2, 80)):
        folder = run / "checkpoints" / f"round-{number:04d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_bytes(b" " * 10)
        (folder / "model.safetensors").write_bytes(b" " * (size - 10))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type(usage)(1000, 0, free))
    found = of(run)
    assert "every checkpoint is damaged" in found.pop(0)
    assert found == ["the disk has 199 bytes left, a checkpoint takes 100 bytes"] * warned
    run_of(run, DONE)
    assert len(of(run)) == 1


def missing(number: int, *sites: str) -> dict:
    there = {"alder": 1.0, "birch": 1.0, "cedar": 1.0}
    for site in sites:
        del there[site]
    return closed(number, **there) | {"missing": list(sites)}


def test_a_site_that_misses_round_after_round(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", START, ROSTER, missing(1), missing(2, "cedar"))
    run_of(run, missing(3, "cedar"), missing(3, "cedar"))  # logged twice, it counts once
    assert of(run) == []
    # In round 4 cedar was not drawn, which says nothing of it.
    run_of(run, missing(4, "cedar") | {"missing": []}, missing(5, "cedar", "birch"))
    assert of(run) == ["cedar: missing in the last 3 rounds that counted on it"]
    run_of(run, missing(6))
    assert of(run) == []


def test_the_round_loop_tells_what_this_reads(make_world: Callable[..., World]) -> None:
    def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
        lost = {"birch": kind == "train", "cedar": kind == "train" and number > 1}
        return Fault(lost=lost.get(site, False))

    world = make_world(plan, rounds=4, quorum=1, pause_after=2)
    found: list[list[str]] = []

    def look(event: dict) -> None:
        if event["event"] == "round":
            found.append(of(world.folder.path))

    world.hooks.append(look)
    world.run()
    birch, cedar = (f"{site}: paused after 2 failures in a row" for site in ("birch", "cedar"))
    # In round 4 birch is tried again, in vain.
    tried = "birch: missing in the last 4 rounds that counted on it"
    assert found == [[], [birch], [birch, cedar], [tried, cedar]]


def test_the_command_finds_the_federation_beside_it(
    tmp_path: Path, home: Home, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(home, 5.8)
    run = run_of(tmp_path / "run", START, ROSTER)
    monkeypatch.chdir(tmp_path)
    line = "the server's certificate ends in 6 days; run `mama-server renew`"
    assert command(main, "status", run).out.endswith(f"WARN  {line}\n")
    assert json.loads(command(main, "status", run, "--json").out)["warnings"] == [line]
    monkeypatch.chdir("/")
    assert "WARN" not in command(main, "status", run).out
    assert "WARN" in command(main, "status", run, "--federation", home.path).out
    assert command(main, "status", run, "--federation", tmp_path / "none.yaml").code == 2
    home.certificate.unlink()  # as before `mama-server provision`
    ended = command(main, "status", run, "--federation", home.path)
    assert (ended.code, "WARN" in ended.out) == (0, False)


def test_a_folder_of_a_run_that_never_began_a_round(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", START)
    assert RunFolder(run).checkpoints() == []
    assert of(run) == []


def test_whoever_asks_for_a_run_hears_what_status_would_say(tmp_path: Path, home: Home) -> None:
    """The run's folder has no event yet, or those of an earlier start."""
    certify(home, -0.01)
    expired = "the server's certificate has expired; run `mama-server renew`"
    (tmp_path / "new").mkdir()
    assert warnings_at_start(tmp_path / "new", home) == [expired]
    run = run_of(tmp_path / "run", START, ROSTER, closed(1, alder=1, birch=1, cedar=1))
    assert warnings_at_start(run, home) == of(run, home) == [expired]
