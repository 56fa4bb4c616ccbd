"""Answers in another site's name: only the named site's signature for that task counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Message

from mama.exchange.protocol import Task
from mama.exchange.roster import Member, Roster
from mama.exchange.signature import sign_answer
from mama.exchange.signing import new_key, public_line
from mama.system.journal import read_chain
from server.cohort.signers import Signers
from tests.server import faults
from tests.server.conftest import make_world
from tests.server.faults import FakeSites, World, pack

__all__ = ["make_world"]  # a fixture
SITES = ("birch", "alder", "cedar")  # birch is asked first
UNSIGNED = "its answer is not signed by a site on the roster"
MakeWorld = Callable[..., World]


class Forger(FakeSites):
    """Fake sites; birch answers as `forge` says: (task, header, data, signature) -> the same."""

    def __init__(self, forge: Callable[..., tuple[str, bytes, str]]) -> None:
        super().__init__()
        self.forge = forge
        self.heard: dict[tuple[str, str], tuple[str, bytes, str]] = {}

    def __call__(self, message: Message, context: Context) -> Message:
        task = Task.decode(message.content.config_records["header"]["json"])
        site = Path(str(context.node_config["site-file"])).parent.name
        reply = super().__call__(message, context)
        head = reply.content.config_records["header"]
        data = reply.content.array_records["payload"]["tensors"].data
        said = str(head["json"]), data, str(head["signature"])
        self.heard[site, task.kind] = said
        return pack(message, *self.forge(task, *said)) if site == "birch" else reply


def members(**keys: str) -> Roster:
    lines = {site: public_line(key.public_key()) for site, key in faults.KEYS.items()} | keys
    listed = tuple(Member(site=site, public_key=lines[site]) for site in SITES)
    return Roster(federation="north", version=1, members=listed)


def attacked(make_world: MakeWorld, tmp_path: Path, forge: Callable, **federation: object) -> World:
    world = make_world(sites=SITES, quorum=2, **federation)
    world.app = world.grid._client_app = Forger(forge)
    world.roster = tmp_path / "roster.json"
    world.roster.write_text(members().signed(new_key()))
    return world.run()


def as_alder(header: str) -> str:
    said = json.loads(header)
    return json.dumps(said | {"site": "alder"}, separators=(",", ":"))


def audited(world: World) -> set[str]:
    return {entry["site"] for entry in read_chain(world.folder.path / "audit.jsonl").entries}


def unsigned(task: Task, header: str, data: bytes, signature: str) -> tuple[str, bytes, str]:
    return as_alder(header), data, ""


def with_own_key(task: Task, header: str, data: bytes, signature: str) -> tuple[str, bytes, str]:
    header = as_alder(header)
    return header, data, sign_answer(faults.KEYS["birch"], task, header, data)


def with_a_key_of_nobody(task: Task, header: str, data: bytes, signature: str):
    header = as_alder(header)
    return header, data, sign_answer(new_key(), task, header, data)


def in_protocol_2(task: Task, header: str, data: bytes, signature: str) -> tuple[str, bytes, str]:
    return as_alder(header).replace('"protocol":3', '"protocol":2'), data, ""


def junk(task: Task, header: str, data: bytes, signature: str) -> tuple[str, bytes, str]:
    return as_alder(header), data, "zz" * 10**5


FORGERIES = [unsigned, with_own_key, with_a_key_of_nobody, in_protocol_2, junk]


@pytest.mark.parametrize("forge", FORGERIES)
def test_birch_cannot_answer_as_alder(
    make_world: MakeWorld, tmp_path: Path, forge: Callable
) -> None:
    world = attacked(make_world, tmp_path, forge)
    assert world.answered == [["alder", "cedar"]] * 3
    assert world.logged("roster")[0]["sites"] == ["alder", "cedar"]
    (problem,) = {(site, text) for _, site, text in world.problems if site.startswith("node")}
    assert problem[0] == "node 1"
    assert "its answer is not signed" in problem[1]
    trained = {t.task for t in world.grid.pushed if t.kind == "train" and "alder" in t.task}
    assert all(world.app.done["alder", name] == 1 for name in trained)
    assert not any(world.app.done["birch", name] for name in trained)


@pytest.mark.parametrize("forge", [unsigned, with_own_key])
def test_the_attack_works_where_nothing_is_verified(
    make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forge: Callable
) -> None:
    monkeypatch.setattr(Signers, "require", lambda *_: None)
    world = attacked(make_world, tmp_path, forge)
    # The run takes place with birch's updates under alder's name, and alder itself is shut out.
    assert world.answered == [["alder", "cedar"]] * 3
    assert (0, "alder", "two nodes have this site's name; give each its own") in world.problems
    assert audited(world) == {"alder", "cedar"}
    assert not any(site == "alder" and "train" in task for site, task in world.app.done)


def test_a_relayed_or_replayed_answer_of_alder_is_for_another_task(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = attacked(make_world, tmp_path, lambda task, *said: said)
    stolen = world.app.heard["alder", "describe"]
    again = make_world(sites=SITES, quorum=2, out="again")
    # Even renamed by a run of the same name, number and node: the nonce is another.
    again.app = again.grid._client_app = Forger(lambda task, *said: stolen)
    again.roster = world.roster
    again.run()
    assert again.logged("roster")[0]["sites"] == ["alder", "cedar"]
    assert (0, "node 1", UNSIGNED) in again.problems


def test_an_answer_of_birch_recorded_before_a_restart_does_not_count(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    first = attacked(make_world, tmp_path, lambda task, *said: said)
    old = dict(first.app.heard)

    def replay(task: Task, *said: object):
        return old["birch", task.kind] if task.kind == "train" else said

    second = make_world(sites=SITES, quorum=2, out="again")
    second.app = second.grid._client_app = Forger(replay)
    second.roster = first.roster
    second.run()
    assert second.answered == [["alder", "cedar"]] * 3
    assert {p for p in second.problems if p[0] > 0} == {(n, "birch", UNSIGNED) for n in (1, 2, 3)}


@pytest.mark.parametrize("part", ["header", "payload"])
def test_what_was_changed_on_the_way_does_not_count(
    make_world: MakeWorld, tmp_path: Path, part: str
) -> None:
    def change(task: Task, header: str, data: bytes, signature: str) -> tuple[str, bytes, str]:
        if task.kind != "train":
            return header, data, signature
        if part == "header":
            return header.replace('"studies":4', '"studies":5'), data, signature
        return header, data[:-1] + bytes([data[-1] ^ 1]), signature

    world = attacked(make_world, tmp_path, change)
    assert world.answered == [["alder", "cedar"]] * 3
    assert (1, "birch", UNSIGNED) in world.problems


@pytest.mark.parametrize("new_line", [None, "another key"])
def test_a_site_revoked_in_mid_run_counts_no_more(
    make_world: MakeWorld, tmp_path: Path, new_line: str | None
) -> None:
    world = make_world(sites=SITES, quorum=2)
    world.roster = tmp_path / "roster.json"
    world.roster.write_text(members().signed(new_key()))

    def revoke(event: dict) -> None:
        if event["event"] != "round" or event["round"] != 1:
            return
        roster = members(birch=public_line(new_key().public_key())) if new_line else members()
        kept = roster.members if new_line else roster.members[1:]
        left = Roster(federation="north", version=2, members=kept)
        world.roster.write_text(left.signed(new_key()))

    world.hooks.append(revoke)
    world.run()
    assert world.answered == [["alder", "birch", "cedar"], *[["alder", "cedar"]] * 2]
    asked = [t.round for t in world.grid.pushed if t.kind == "train" and "birch" in t.task]
    assert asked == [1]  # nor is it sent the model any more
