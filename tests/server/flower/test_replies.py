"""A reply is taken once it is whole, and until then holds nobody up."""

import pytest
from flwr.superlink.grid.http_grid import HttpGrid

from server.flower.one_copy import stay_lean
from server.flower.replies import FORGOTTEN_S, STALLED_S, look_eagerly
from tests.server.superlink import MIB, Parts, SuperLink, reply_to, task_of

TASK = task_of("train")
DATA = bytes(range(256)) * (6 * MIB // 256)  # two pieces


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("server.flower.replies.time", clock)
    monkeypatch.setattr(HttpGrid, "pull_messages", HttpGrid.pull_messages)  # put back at the end
    look_eagerly()
    stay_lean()
    return clock


def coming(clock: Clock, gap_s: float, order: int = 1) -> SuperLink:
    """SuperLink with an arriving reply, a piece each `gap_s`, in a site's order or backwards."""
    link = SuperLink()
    parts = Parts(reply_to(TASK, DATA))
    begin = clock.now
    there = {name: place for place, name in enumerate(list(parts.pieces)[::order], start=1)}
    link.ready = lambda task, piece: clock.now >= begin + gap_s * there[piece]
    link.replies["t"] = parts
    return link


def test_a_slow_reply_comes_whole(clock: Clock) -> None:
    """The whole takes longer than any piece may, and each piece is pulled twice at most."""
    link, begin = coming(clock, 0.9 * STALLED_S), clock.now
    replies = []
    while not replies:
        assert clock.now < begin + 8 * STALLED_S
        clock.now += 1
        replies = list(link.post.pull("t", TASK))
    (reply,) = replies
    assert reply.payload == DATA
    assert clock.now > begin + 5 * STALLED_S
    assert max(link.pulled.count(name) for name in link.pulled) <= 2
    assert link.kept == 0


def test_one_that_comes_backwards_is_no_sites_and_costs_little(clock: Clock) -> None:
    link = coming(clock, 0.9 * STALLED_S, order=-1)
    replies: list = []
    while not replies:
        clock.now += 1
        replies = list(link.post.pull("t", TASK))
    assert replies[0].lost
    assert max(link.pulled.count(name) for name in link.pulled) <= 2


def test_one_that_is_there_is_pulled_once(clock: Clock) -> None:
    link = coming(clock, 0)
    (reply,) = link.post.pull("t", TASK)
    assert reply.payload == DATA
    assert len(link.pulled) == len(set(link.pulled))


def test_one_of_which_nothing_more_comes_is_lost(clock: Clock) -> None:
    link, begin = coming(clock, 0.0), clock.now
    last = link.replies["t"].tree.object_id
    link.ready = lambda task, piece: piece != last
    replies: list = []
    while not replies:
        clock.now += 1
        replies = list(link.post.pull("t", TASK))
    (reply,) = replies
    assert reply.lost
    # Two pieces and four records are noticed one a look.
    assert STALLED_S < clock.now - begin < STALLED_S + 10
    assert link.kept == 0
    assert list(link.post.pull("t", TASK)) == []


def test_a_piece_that_the_superlink_has_lost(clock: Clock) -> None:
    link = coming(clock, 0.0)
    parts = link.replies["t"]
    del parts.pieces[next(iter(parts.pieces))]
    (reply,) = link.post.pull("t", TASK)
    assert reply.lost


def test_a_reply_that_nobody_asks_for_is_forgotten(clock: Clock) -> None:
    link = coming(clock, 1e9)
    assert list(link.post.pull("t", TASK)) == []
    clock.now += FORGOTTEN_S + 1
    assert list(link.post.pull("other", TASK)) == []
    assert (
        list(link.post.pull("t", TASK)) == []
    )  # asked of the SuperLink again, which announces once
    assert link.pulled == []


def test_a_message_within_itself_is_no_message(clock: Clock) -> None:
    link = coming(clock, 0.0)
    parts = link.replies["t"]
    inner = parts.tree.children[0]
    parts.tree.CopyFrom(inner)  # announced as the message: its content
    (reply,) = link.post.pull("t", TASK)
    assert reply.problem == "what came is no message"
