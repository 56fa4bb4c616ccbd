"""`mama-server status` without a run: what a coordinator looks at first in the morning."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mama.errors import ServiceError
from mama.exchange.signing import write_key_pair
from server.cli import main
from server.federation.roster import enrol, read_roster, revoke
from server.service import overview as module
from server.service.control import Node
from server.service.jobs import JobFile
from server.service.overview import overview
from tests.server.bench import Bench, bench

__all__ = ["bench"]  # a fixture


@pytest.fixture
def nodes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """The nodes of a service that seems to run; alder's is online."""
    for site in ("birch", "cedar", "dogwood"):
        folder = bench.home.path.parent / site
        folder.mkdir()
        write_key_pair(folder / "node.key", folder / "node.pub")
        enrol(bench.home, site, folder / "node.pub")
    revoke(bench.home, "dogwood")
    keys = {member.site: member.public_key for member in read_roster(bench.home).members}
    known = [
        Node(1, "alder", keys["alder"], "online"),
        Node(2, "birch", keys["birch"], "registered"),
    ]

    class Service:
        def nodes(self) -> list[Node]:
            return known

    @contextmanager
    def control(home: object) -> Iterator[Service]:
        yield Service()

    monkeypatch.setattr(module, "Control", control)
    monkeypatch.setattr(module, "is_running", lambda home: True)
    return known


def test_sites(bench: Bench, nodes: list[Node]) -> None:
    sites = {"alder": "online", "birch": "offline", "cedar": "offline", "dogwood": "revoked"}
    assert overview(bench.home)["sites"] == sites


def test_a_service_that_is_down_or_does_not_answer(
    bench: Bench, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(home: object) -> Any:
        raise ServiceError("does not answer")

    monkeypatch.setattr(module, "Control", silent)
    whole = overview(bench.home)
    assert whole["service"] == "running, and does not answer yet"
    assert set(whole["sites"].values()) == {"unknown", "revoked"}
    monkeypatch.setattr(module, "is_running", lambda home: False)
    whole = overview(bench.home)
    assert whole["service"].startswith("not running")
    assert set(whole["sites"].values()) == {"unknown", "revoked"}


def test_runs_in_the_order_they_were_asked_for(
    bench: Bench, nodes: list[Node], tmp_path: Path
) -> None:
    for name in ("second", "first"):
        (tmp_path / name).mkdir()
        JobFile(bench.home, tmp_path / name).ask()
    file = JobFile(bench.home, tmp_path / "second")
    job = file.read()
    assert job is not None
    file.write(job.model_copy(update={"state": "failed", "reason": "no \x1b[2J quorum"}))
    first, second = overview(bench.home)["runs"]
    assert (first["out"], first["state"], first["rounds"]) == ("second", "failed", None)
    assert "\x1b" not in first["reason"]
    assert (second["out"], second["state"]) == ("first", "queued")


def test_the_command(bench: Bench, nodes: list[Node], command: Callable) -> None:
    ended = command(main, "status", "--federation", bench.home.path)
    assert (ended.code, ended.err) == (0, "")
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    for text in (
        "federation demo at fl.example.org:8443",
        "service: running",
        "alder",
        "no run yet",
    ):
        assert text in ended.out
    ended = command(main, "status", "--json", "--federation", bench.home.path)
    assert json.loads(ended.out)["sites"]["alder"] == "online"


def test_there_is_no_federation(command: Callable, tmp_path: Path) -> None:
    ended = command(main, "status", "--federation", tmp_path / "federation.yaml")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
