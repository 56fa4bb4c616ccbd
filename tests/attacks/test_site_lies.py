"""A site that says what is not so: a budget that is spent, and one update too many."""

from collections.abc import Callable

import pytest
from flwr.app import Context, Message

from mama.errors import QuorumError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task
from mama.exchange.signature import sign_answer
from server.round.collect import UpdateCollector
from server.round.state import RoundState
from tests.server.faults import KEYS, Fault, Plan, World, assert_same, of, pack, replayed


def lie(world: World, site: str, number: int, code: ErrorCode) -> None:
    """Have a site answer a round of training with a code, signed as any answer of its own."""

    def app(message: Message, context: Context) -> Message:
        task = Task.decode(message.content.config_records["header"]["json"])
        me = f"{site}/" in str(context.node_config["site-file"])
        if not me or (task.kind, task.round) != ("train", number):
            return world.app(message, context)
        answer = Answer(run=task.run, round=task.round, task=task.task, site=site, status=code)
        said = answer.encode()
        return pack(message, said, b"", sign_answer(KEYS[site], task, said, b""))

    world.grid._client_app = app  # type: ignore[assignment]


Worlds = Callable[..., World]


def test_one_spent_budget_does_not_end_a_run_that_is_not_private(make_world: Worlds) -> None:
    world = make_world()
    lie(world, "cedar", 2, ErrorCode.BUDGET)
    world.run()
    assert world.metrics()["status"] == "finished"
    everyone = ["alder", "birch", "cedar"]
    assert world.answered == [everyone, ["alder", "birch"], everyone]
    assert_same(world.model, replayed([of(1), of(2, "alder", "birch"), of(3)]))


def test_where_its_update_is_missed_the_run_stops_and_can_go_on(make_world: Worlds) -> None:
    world = make_world(quorum=3, extend=2)
    lie(world, "cedar", 2, ErrorCode.BUDGET)
    with pytest.raises(QuorumError):
        world.run()
    assert world.metrics()["status"] == "stopped"
    assert len(world.logged("extended")) == 2  # as for any other failure
    world.grid._client_app = world.app
    world.run()
    assert world.metrics()["status"] == "finished"
    assert_same(world.model, replayed([of(1), of(2), of(3)]))


def test_without_the_rule_its_word_ends_the_run(
    make_world: Worlds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RoundState, "budget_spent", True)
    world = make_world(quorum=3, extend=2)
    lie(world, "cedar", 2, ErrorCode.BUDGET)
    world.run()
    assert world.metrics()["status"] == "finished"
    assert len(world.answered) == 1


def two_late() -> Plan:
    """Birch's updates of rounds 1 and 2 both come within round 3, which waits for cedar."""
    delays = {("birch", 1): 45.0, ("birch", 2): 26.0, ("cedar", 3): 15.0}

    def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
        return Fault(delay=delays.get((site, number), 0.0) if kind == "train" else 0.0)

    return plan


def test_of_late_updates_one_a_site_and_round_counts(make_world: Worlds) -> None:
    world = make_world(two_late(), deadline_s=20.0, late="next_round", weights="uniform").run()
    assert world.answered[2] == ["alder", "birch", "cedar"]
    assert world.logged("round")[2]["late"] == {"birch": 1}
    assert (3, "birch", "update refused: birch: a second late update in one round") in [
        (number, site, problem) for number, site, problem in world.problems
    ]
    own = {f"{site}/3": 1.0 for site in ("alder", "birch", "cedar")}
    first = [dict.fromkeys((f"alder/{n}", f"cedar/{n}"), 1.0) for n in (1, 2)]
    assert_same(world.model, replayed([*first, own | {"birch/1": 3**-0.5}]))


def test_without_the_rule_birch_counts_three_times(
    make_world: Worlds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Forgetful(dict):
        def __contains__(self, key: object) -> bool:
            return False

    begin = UpdateCollector.__init__

    def without(self, *arguments) -> None:
        begin(self, *arguments)
        self.late = Forgetful()

    with monkeypatch.context() as off:
        off.setattr(UpdateCollector, "__init__", without)
        attacked = make_world(two_late(), deadline_s=20.0, late="next_round", weights="uniform")
        attacked.run()
    own = {f"{site}/3": 1.0 for site in ("alder", "birch", "cedar")}
    first = [dict.fromkeys((f"alder/{n}", f"cedar/{n}"), 1.0) for n in (1, 2)]
    heavy = own | {"birch/2": 2**-0.5, "birch/1": 3**-0.5}
    assert_same(attacked.model, replayed([*first, heavy]))
