"""Decompression bombs and slow answers from a site.

The server refuses each by one line, in little memory, and serves the other sites meanwhile.

Run as a program with a bomb, a kind of task and `on` or `off`, it prints what the server made of
the answer and by how many bytes it grew.
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import product
from types import ModuleType

import pytest
from flwr.app import Array, ConfigRecord
from flwr.superlink.grid.http_grid import HttpGrid

from server.flower import replies
from server.flower.one_copy import stay_lean
from server.flower.replies import STALLED_S, look_eagerly
from server.round import dispatch
from server.round.connections import Connection
from server.round.dispatch import Dispatcher, Exchange
from server.round.state import Next, RoundState, Verdict
from tests.attacks.memory import MIB, forget_peak, in_a_process, resident
from tests.server.faults import Clock
from tests.server.superlink import (
    VALUES,
    Parts,
    Piece,
    SuperLink,
    array_body,
    naming,
    reply_to,
    task_of,
)

# As it is before any test has put another in its place.
FLOWERS_OWN = HttpGrid.pull_messages

REPEATS = 600
SENT = 40 * MIB  # what one request of a site can hold
CHUNK: Piece = (b"ArrayChunk", [], bytes(MIB))
KINDS = ("describe", "train")
REFUSED = (
    "the message is too large",
    "the message has too many pieces",
    "a piece of the message is damaged",
)


def holding(*pieces: Piece, arrays: int = 1) -> Parts:
    """A message whose payload are the last of these pieces."""
    first, count = len(pieces) - arrays, len(pieces)
    return Parts.forged(
        *pieces,
        (b"ArrayRecord", range(first, count), naming()),
        (b"RecordDict", [count], naming("payload")),
        (b"Message", [count + 1], b""),
    )


def one_chunk_often() -> Parts:
    return holding(CHUNK, (b"Array", [0], array_body([0] * REPEATS)))


def many_arrays_of_one_chunk() -> Parts:
    """Each array alone would have room."""
    many = [(b"Array", [0], array_body([0] * 4, length)) for length in range(40)]
    return holding(CHUNK, *many, arrays=len(many))


def many_records_of_one_chunk() -> Parts:
    many: list[Piece] = [(b"Array", [0], array_body([0] * 4, length)) for length in range(20)]
    count = len(many)
    many += [(b"ArrayRecord", [place + 1], naming("a")) for place in range(count)]
    record = (b"RecordDict", range(count + 1, 2 * count + 1), naming())
    return Parts.forged(CHUNK, *many, record, (b"Message", [2 * count + 1], b""))


def an_array_of_arrays() -> Parts:
    return holding(
        CHUNK, (b"Array", [0], array_body([0] * 32)), (b"Array", [1], array_body([0] * 32))
    )


def all_of_it_sent() -> Parts:
    """Chunks that differ, and not one of them often."""
    chunks: list[Piece] = [
        (b"ArrayChunk", [], place.to_bytes(4) + bytes(MIB)) for place in range(REPEATS // 2)
    ]
    places = list(range(len(chunks)))
    return holding(*chunks, (b"Array", places, array_body(places)))


def one_large_chunk() -> Parts:
    return holding((b"ArrayChunk", [], bytes(SENT)), (b"Array", [0], array_body([0])))


def a_list_of_millions() -> Parts:
    body = array_body([]).replace(b"[]", b"[" + b"0," * (SENT // 2) + b"0]")
    return holding((b"ArrayChunk", [], b""), (b"Array", [0], body))


def a_chunk_with_a_long_head() -> Parts:
    """The names of its children are taken apart into a list."""
    made = holding((b"ArrayChunk", [], b""), (b"Array", [0], array_body([0])))
    name = next(iter(made.pieces))
    made.pieces[name] = b"ArrayChunk %s 0\0" % (b"," * SENT)
    return made


def a_long_header() -> Parts:
    return with_header(ConfigRecord({"json": "x" * SENT}))


def a_header_of_many() -> Parts:
    return with_header(ConfigRecord({"json": [1.0] * MIB}))


def with_header(record: ConfigRecord) -> Parts:
    body = bytes(record.deflate()).partition(b"\0")[2]
    return Parts.forged(
        (b"ConfigRecord", [], body),
        (b"RecordDict", [0], naming("header")),
        (b"Message", [1], b""),
    )


def many_small_chunks() -> Parts:
    chunks: list[Piece] = [(b"ArrayChunk", [], b"%d" % place) for place in range(10_000)]
    places = list(range(len(chunks)))
    return holding(*chunks, (b"Array", places, array_body(places)))


BOMBS: dict[str, Callable[[], Parts]] = {
    made.__name__: made
    for made in (
        one_chunk_often,
        many_arrays_of_one_chunk,
        many_records_of_one_chunk,
        an_array_of_arrays,
        all_of_it_sent,
        one_large_chunk,
        a_list_of_millions,
        a_chunk_with_a_long_head,
        a_long_header,
        a_header_of_many,
        many_small_chunks,
    )
}


EXPLODING = ("one_chunk_often",)


def go_off(defence: str, *bombs: str) -> list[tuple[str, str, str, float]]:
    """Bomb, kind of task, what the server made of the answer, and growth in MiB."""
    if defence == "on":
        look_eagerly()
        stay_lean()
    heard = []
    for bomb in bombs:
        parts = BOMBS[bomb]()
        for kind in KINDS:
            link = SuperLink()
            link.replies["t"] = parts
            before = forget_peak()
            problem = next(link.post.pull("t", task_of(kind))).problem
            heard.append((bomb, kind, problem, (resident("VmHWM") - before) / MIB))
    return heard


def test_a_bomb_is_refused_by_a_line_in_little_memory() -> None:
    """What was sent is there once, and once more while a piece is unpacked."""
    heard = in_a_process("tests.attacks.test_site_bombs", "on", *BOMBS)
    assert {(bomb, kind) for bomb, kind, _, _ in heard} == set(product(BOMBS, KINDS))
    for bomb, kind, problem, grew in heard:
        assert problem in REFUSED, (bomb, kind)
        assert grew < 2 * SENT / MIB + 16, (bomb, kind)


def test_flowers_own_grid_takes_the_memory() -> None:
    for bomb, *_, grew in in_a_process("tests.attacks.test_site_bombs", "off", *EXPLODING):
        assert grew > 500, bomb


def test_an_answer_that_fits_is_taken(lean: None) -> None:
    data = bytes(4 * VALUES)
    link = SuperLink()
    for kind in ("train", "mask", "rehearse", "share"):
        link.replies["t"] = Parts(reply_to(task_of(kind), data))
        (reply,) = link.post.pull("t", task_of(kind))
        assert reply.payload == data
    for kind in ("describe", "evaluate", "finish"):
        link.replies["t"] = Parts(reply_to(task_of(kind), b"x"))
        (reply,) = link.post.pull("t", task_of(kind))
        assert reply.problem == "the message is too large"
        link.replies["t"] = Parts(reply_to(task_of(kind)))
        (reply,) = link.post.pull("t", task_of(kind))
        assert reply.answer is not None


def test_without_memory_the_server_lives(lean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_left(*_: object) -> None:
        raise MemoryError

    link = SuperLink()
    link.replies["t"] = Parts(reply_to(task_of("train"), b"x"))
    monkeypatch.setattr(replies, "inflate_object_from_contents", nothing_left)
    (reply,) = link.post.pull("t", task_of("train"))
    assert reply.problem == "what came is no message (MemoryError)"


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpGrid, "pull_messages", HttpGrid.pull_messages)  # put back at the end
    monkeypatch.setattr(Array, "inflate", Array.inflate)
    look_eagerly()
    stay_lean()


def dripping(clock: Clock | ModuleType, gap_s: float) -> SuperLink:
    """birch's answer is there, alder's comes a piece each `gap_s`, and never ends in time."""
    link, begin = SuperLink(), clock.monotonic()
    # Pieces of a kibibyte, so that there are many.
    chunks: list[Piece] = [(b"ArrayChunk", [], b"%d" % place) for place in range(100)]
    places = list(range(len(chunks)))
    drops = holding(*chunks, (b"Array", places, array_body(places)))
    there = {name: gap_s * place for place, name in enumerate(drops.pieces, start=1)}
    link.ready = lambda name, piece: clock.monotonic() >= begin + there.get(piece, 0)
    link.replies |= {"alder": drops, "birch": Parts(reply_to(task_of("train", "birch"), b"x"))}
    return link


def test_drops_hold_nobody_up(lean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(replies, "time", clock)
    monkeypatch.setattr(dispatch, "time", clock)
    link = dripping(clock, 0.75 * STALLED_S)
    monkeypatch.setattr(link.post, "push", lambda node, *_: {1: "alder", 2: "birch"}[node])
    connections = {"alder": Connection(1, ""), "birch": Connection(2, "")}
    state = RoundState(connections, wait_s=600, slots=2)
    tasks = {site: task_of("train", site) for site in connections}
    exchange, dispatcher = Exchange("train", tasks, state), Dispatcher(link.post)
    begin, heard = clock.now, []
    while not state.closed:
        for site in state.due(clock.now, connections):
            dispatcher.send(exchange, site, connections[site], b"")
        for _, site, reply in dispatcher.replies("train"):
            if state.on_reply(site, reply.outcome) == Verdict.ACCEPT:
                heard.append((site, clock.now - begin))
        if state.next(clock.now, {}) != Next.WAIT:
            state.close()
        clock.sleep(2.0)
    assert heard == [("birch", 0)]
    assert 600 <= clock.now - begin < 605


def test_flowers_own_grid_hears_nobody_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpGrid, "pull_messages", FLOWERS_OWN)
    link = dripping(time, 0.02)
    begin = time.monotonic()
    list(link.post.pull("alder", task_of("train", "alder")))
    assert (
        time.monotonic() - begin > 1.5
    )  # until the last piece is there, whatever the task's deadline


if __name__ == "__main__":
    print(json.dumps(go_off(*sys.argv[1:])))
