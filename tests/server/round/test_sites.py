"""Tasks and files sent to the sites beside the model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mama.exchange.roster import Member, Roster
from mama.exchange.signing import new_key, public_line
from mama.system.journal import read_chain
from server.report.page import write_report
from server.report.status import status
from server.service.follow import line_of
from tests.events import made
from tests.server import faults
from tests.server.faults import Fault, World, only

SITES = ("alder", "birch", "cedar")


def roster_text(version: int, **shares: float) -> str:
    members = tuple(
        Member(site=site, public_key=public_line(faults.KEYS[site].public_key()), share=share)
        for site, share in {**dict.fromkeys(SITES, 1.0), **shares}.items()
    )
    return Roster(federation="north", version=version, members=members).signed(new_key())


def test_every_task_carries_the_roster_as_it_is_then(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world()
    world.roster = tmp_path / "roster.json"
    first, second = roster_text(1), roster_text(2)
    world.roster.write_text(f"{first}\n")

    def enrol(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 2:
            (tmp_path / "roster.json").write_text(f"{second}\n")

    world.hooks.append(enrol)
    world.run()
    found = {(task.kind, task.round, task.roster) for task in world.grid.pushed}
    assert found == {
        ("describe", 0, first),
        ("statistics", 0, first),
        ("train", 1, first),
        ("train", 2, first),
        ("train", 3, second),
        ("evaluate", 3, second),
        ("finish", 3, second),
    }


def test_without_a_federations_home_there_is_none(make_world: Callable[..., World]) -> None:
    assert {task.roster for task in make_world().run().grid.pushed} == {None}


def test_a_site_of_the_protocol_before_takes_part_where_there_is_no_roster(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    world.app.older = {"birch"}
    world.run()
    assert world.problems == []
    assert world.answered == [["alder", "birch", "cedar"]] * 3
    of_birch = {
        (task.kind, task.protocol)
        for task in world.grid.pushed
        if task.task.endswith(("birch", "node-2"))
    }
    assert of_birch == {
        ("describe", 3),  # refused, so it is asked again
        ("describe", 2),
        ("train", 2),
        ("evaluate", 2),
        ("finish", 2),
    }
    assert {task.protocol for task in world.grid.pushed if task.task.endswith("alder")} == {3}


def test_a_site_that_was_updated_and_comes_back_is_asked_in_the_new_one(
    make_world: Callable[..., World],
) -> None:
    world = make_world(sites=("alder", "birch"), quorum=1)
    world.app.older = {"birch"}

    def update(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 1:
            world.app.older.clear()
            del world.grid.here[2]
            world.grid.connect("birch", 3)

    world.hooks.append(update)
    world.run()
    assert world.answered == [["alder", "birch"]] * 3
    spoken = {
        task.round: task.protocol
        for task in world.grid.pushed
        if "train" in task.task and "birch" in task.task
    }
    assert spoken == {1: 2, 2: 3, 3: 3}


def test_a_site_that_goes_on_refusing_is_asked_twice_and_no_more(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "OLDER_KEYS", set())  # nothing is to its liking
    world = make_world(quorum=2)
    world.app.older = {"birch"}
    world.run()
    assert world.grid.attempts["birch", "describe-0-node-2"] == 2
    assert world.answered == [["alder", "cedar"]] * 3
    assert world.problems[0] == (
        0,
        "birch",
        "The task is malformed or does not fit the experiment.",
    )


def test_the_rosters_shares_count_and_a_member_that_never_came_is_missed(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(shares={"cedar": 2.0})  # goes before the roster's
    world.roster = tmp_path / "roster.json"
    world.roster.write_text(roster_text(1, birch=3.0, cedar=100.0, dogwood=4.0))
    world.run()
    assert world.answered == [list(SITES)] * 3
    assert [event["missing"] for event in world.logged("round")] == [["dogwood"]] * 3
    assert [event["share"] for event in world.logged("round")] == [pytest.approx(6 / 10)] * 3
    assert "dogwood (public share 40 %)" in write_report(world.folder.path).read_text()


def test_a_revoked_site_is_missed_no_more(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world()
    world.roster = tmp_path / "roster.json"
    world.roster.write_text(roster_text(1))

    def revoke(event: dict) -> None:
        if event["event"] == "round" and event["round"] == 1:
            del world.grid.here[2]
            roster = Roster.own(world.roster.read_text())
            members = [
                m.model_copy(update={"status": "revoked"}) if m.site == "birch" else m
                for m in roster.members
            ]
            left = roster.model_copy(update={"members": tuple(members)})
            world.roster.write_text(left.signed(new_key()))

    world.hooks.append(revoke)
    world.run()
    assert [event["missing"] for event in world.logged("round")] == [[], [], []]
    assert [event["share"] for event in world.logged("round")] == [1, 1, 1]


def without_birch(path: Path) -> None:
    """Write the roster anew with birch revoked."""
    roster = Roster.own(path.read_text())
    members = tuple(
        m.model_copy(update={"status": "revoked"}) if m.site == "birch" else m
        for m in roster.members
    )
    path.write_text(roster.model_copy(update={"members": members}).signed(new_key()))


@pytest.mark.parametrize(("revoked", "connected"), [(True, True), (True, False), (False, False)])
def test_a_site_revoked_at_its_task_is_called_revoked(
    make_world: Callable[..., World], tmp_path: Path, revoked: bool, connected: bool
) -> None:
    settings: dict[str, float] = {"quorum": 2, "gone_s": 120, "deadline_s": 3600}
    world = make_world(only("birch", 2, Fault(lost=True)), **settings)
    world.roster = tmp_path / "roster.json"
    world.roster.write_text(roster_text(1))

    def take_away(event: dict) -> None:
        if (event["event"], event.get("task"), event.get("round")) == ("asked", "train", 2):
            if not connected:
                del world.grid.here[2]
            if revoked:
                without_birch(world.roster)

    world.hooks.append(take_away)
    world.run()
    assert world.answered == [list(SITES), ["alder", "cedar"], ["alder", "cedar"]]
    word, why = ("revoked", "revoked by the coordinator") if revoked else ("left", "not connected")
    departures = [e for e in world.events if e["event"] in ("left", "revoked")]
    assert [(e["event"], e["round"], e["site"]) for e in departures] == [(word, 2, "birch")]
    assert next(p for p in world.problems if p[1] == "birch") == (2, "birch", why)
    assert world.logged("round")[1]["seconds"] < (20 if revoked else 130)
    found = status(world.folder.path)["sites"]["birch"]
    assert found["state"] == ("revoked" if revoked else "failed")
    lines = [line_of(made(e)) for e in departures]
    assert ("revoked" in str(lines[0])) == revoked
    page = write_report(world.folder.path).read_text()
    assert ("birch (revoked)" in page) == revoked
    assert ("not connected" in page) != revoked

    again = make_world(**settings)
    again.roster = world.roster
    del again.grid.here[2]
    again.run()  # the run is started again
    assert [e["site"] for e in again.logged("revoked")] == (["birch"] if revoked else [])
    assert (status(again.folder.path)["sites"]["birch"]["state"] == "revoked") == revoked


def test_a_site_enrolled_again_is_no_longer_called_revoked(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(rounds=4, quorum=2)
    world.roster = tmp_path / "roster.json"
    world.roster.write_text(roster_text(1))
    seen: list[str] = []

    def change(event: dict) -> None:
        if event["event"] == "round" and event["round"] < 3:
            if event["round"] == 1:
                without_birch(world.roster)
            else:
                seen.append(status(world.folder.path)["sites"]["birch"]["state"])
                world.roster.write_text(roster_text(3))
                del world.grid.here[2]
                world.grid.connect("birch", 9)

    world.hooks.append(change)
    world.run()
    assert seen == ["revoked"]
    assert [len(sites) for sites in world.answered] == [3, 2, 3, 3]
    assert status(world.folder.path)["sites"]["birch"]["state"] == "online"
    assert "(revoked)" not in write_report(world.folder.path).read_text()


def slow_to_describe(site: str, kind: str, number: int, attempt: int) -> Fault:
    """One site takes 50 minutes to say what it is."""
    return Fault(delay=3000) if (site, kind) == ("birch", "describe") else Fault()


def test_one_silent_node_does_not_hold_up_a_start_that_has_its_quorum(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(slow_to_describe, quorum=2, deadline_s=3600)
    world.roster = tmp_path / "roster.json"
    world.roster.write_text(roster_text(1))
    begun = world.clock.now
    started: list[float] = []
    world.hooks.append(
        lambda e: started.append(world.clock.now) if e["event"] == "roster" else None
    )
    world.run()
    assert started[0] - begun < 70
    assert world.answered[0] == ["alder", "cedar"]


def test_a_simulation_waits_for_every_site_of_its_own_machine(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slow_to_describe, quorum=2, deadline_s=3600)
    world.run()
    assert world.answered == [list(SITES)] * 3


def test_a_start_without_its_quorum_waits_as_often_as_a_round_is_extended(
    make_world: Callable[..., World],
) -> None:
    world = make_world(quorum=3, extend=2)
    world.expected = 3
    del world.grid.here[2]
    sleep, begun = world.clock.sleep, world.clock.now

    def come(seconds: float) -> None:
        sleep(seconds)
        if world.clock.now - begun > 150 and "birch" not in world.grid.here.values():
            world.grid.connect("birch", 2)

    world.clock.sleep = come  # type: ignore[method-assign]
    world.run()
    assert world.answered == [list(SITES)] * 3


def test_what_is_no_answer_of_the_round_is_in_the_audit_log_too(
    make_world: Callable[..., World],
) -> None:
    def forge(header: str, data: bytes) -> tuple[str, bytes]:
        return json.dumps(json.loads(header) | {"site": "alder"}), data

    world = make_world(only("birch", 2, Fault(change=forge))).run()
    entries = read_chain(world.folder.path / "audit.jsonl").entries
    found = [(e["site"], e["outcome"]) for e in entries if e["round"] == 2]
    assert sorted(found) == [("alder", "accepted"), ("birch", "refused"), ("cedar", "accepted")]
