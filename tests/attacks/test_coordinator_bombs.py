"""Decompression bombs from a coordinator.

The site's guard leaves the tensors unread, answers the header, and survives.

Run as a program with `on` or `off`, it prints by how many bytes a guard grew by each bomb, and what
it took for a task.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.supernode.runtime.run_clientapp import pull_and_inflate_object_from_tree

from client.service.flower.intake import UNREADABLE, pull_task, pull_within
from mama.errors import ProtocolError
from mama.exchange.message_size import most_bytes
from tests.attacks.memory import MIB, forget_peak, in_a_process, resident
from tests.server.superlink import Parts, Piece, array_body, naming, task_of

REPEATS, SENT, VALUES = 600, 40 * MIB, MIB
CHUNK: Piece = (b"ArrayChunk", [], bytes(MIB))
HEADER = task_of("train").encode()
MESSAGE = message_to_proto(Message(RecordDict(), 1, "train")).SerializeToString()


def bringing(*pieces: Piece, arrays: int = 1, header: object = HEADER) -> Parts:
    """A task whose payload are the last of these pieces."""
    first, count = len(pieces) - arrays, len(pieces)
    record = ConfigRecord({"json": header})  # type: ignore[dict-item]
    return Parts.forged(
        *pieces,
        (b"ArrayRecord", range(first, count), naming()),
        (b"ConfigRecord", [], bytes(record.deflate()).partition(b"\0")[2]),
        (b"RecordDict", [count + 1, count], naming("header", "payload")),
        (b"Message", [count + 2], MESSAGE),
    )


def one_chunk_often() -> Parts:
    return bringing(CHUNK, (b"Array", [0], array_body([0] * REPEATS)))


def many_arrays_of_one_chunk() -> Parts:
    many = [(b"Array", [0], array_body([0] * 4, length)) for length in range(40)]
    return bringing(CHUNK, *many, arrays=len(many))


def all_of_it_sent() -> Parts:
    chunks: list[Piece] = [(b"ArrayChunk", [], b"%d" % place + bytes(MIB)) for place in range(150)]
    places = list(range(len(chunks)))
    return bringing(*chunks, (b"Array", places, array_body(places)))


def a_chunk_with_a_long_head() -> Parts:
    made = bringing((b"ArrayChunk", [], b""), (b"Array", [0], array_body([0])))
    made.pieces[next(iter(made.pieces))] = b"ArrayChunk %s 0\0" % (b"," * SENT)
    return made


def a_list_of_millions() -> Parts:
    body = array_body([]).replace(b"[]", b"[" + b"0," * (SENT // 2) + b"0]")
    return bringing((b"ArrayChunk", [], b""), (b"Array", [0], body))


BOMBS: dict[str, Callable[[], Parts]] = {
    made.__name__: made
    for made in (
        one_chunk_often,
        many_arrays_of_one_chunk,
        all_of_it_sent,
        a_chunk_with_a_long_head,
        a_list_of_millions,
    )
}


def taken(parts: Parts, room: int) -> tuple[list[str], object]:
    """The records that the app would see, and the task's header."""
    confirmed: list[str] = []
    message = pull_task(
        parts.tree, parts.pieces.__getitem__, confirmed.append, room_of=lambda header: room
    )
    assert confirmed == [parts.tree.object_id]
    return sorted(message.content), message.content.config_records["header"]["json"]


def go_off(defence: str, *bombs: str) -> list[tuple[str, float, bool]]:
    grown = []
    for bomb in bombs:
        parts = BOMBS[bomb]()
        before = forget_peak()
        if defence == "on":
            as_it_is = taken(parts, most_bytes(VALUES)) == (["header"], HEADER)
        else:
            pull_and_inflate_object_from_tree(
                parts.tree, parts.pieces.__getitem__, lambda name: None
            )
            as_it_is = False
        grown.append((bomb, (resident("VmHWM") - before) / MIB, as_it_is))
    return grown


def test_the_guard_takes_the_header_and_no_memory() -> None:
    heard = in_a_process("tests.attacks.test_coordinator_bombs", "on", *BOMBS)
    assert [bomb for bomb, *_ in heard] == list(BOMBS)
    for bomb, grew, header_alone in heard:
        assert header_alone, bomb
        assert grew < 32, bomb


def test_flowers_own_takes_it() -> None:
    ((_, grew, _),) = in_a_process("tests.attacks.test_coordinator_bombs", "off", "one_chunk_often")
    assert grew > 500


def test_an_honest_task_is_taken_whole() -> None:
    places = [0, 0, 0, 0]
    parts = bringing(CHUNK, (b"Array", [0], array_body(places)))
    assert taken(parts, 4 * MIB) == (["header", "payload"], HEADER)
    assert taken(parts, 4 * MIB - 1) == (["header"], HEADER)
    assert taken(parts, 0) == (["header"], HEADER)


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_node_keeps_nothing_of_it(bomb: str) -> None:
    """What the node itself may hold is bounded by the site's policy alone."""
    parts = BOMBS[bomb]()
    with pytest.raises(ProtocolError):
        pull_within(most_bytes(VALUES))(list(parts.pieces), parts.pieces.__getitem__)


@pytest.mark.parametrize("header", ["x" * 6 * MIB, [1.0] * MIB])
def test_a_header_that_is_a_bomb_is_no_task(header: object) -> None:
    parts = bringing(CHUNK, (b"Array", [0], array_body([0])), header=header)
    with pytest.raises(ProtocolError):
        taken(parts, MIB)


NONSENSE: dict[str, Parts] = {
    "no content": Parts.forged((b"Message", [], b"")),
    "a chunk": Parts.forged(CHUNK),
    "no header": Parts.forged(
        (b"ConfigRecord", [], b""), (b"RecordDict", [0], naming("x")), (b"Message", [1], b"")
    ),
    "a record for a message": Parts.forged(
        (b"ConfigRecord", [], b""), (b"RecordDict", [0], naming("header"))
    ),
    "an unknown kind": Parts.forged(
        (b"ConfigRecord", [], b""), (b"Surprise", [0], naming("header")), (b"Message", [1], b"")
    ),
    "no JSON": Parts.forged(
        (b"ConfigRecord", [], b""), (b"RecordDict", [0], b"["), (b"Message", [1], b"")
    ),
    "no protobuf": Parts.forged(
        (b"ConfigRecord", [], b"\xff"),
        (b"RecordDict", [0], naming("header")),
        (b"Message", [1], b""),
    ),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_what_is_no_task_is_an_error_that_the_guard_survives(case: str) -> None:
    parts = NONSENSE[case]
    with pytest.raises(UNREADABLE):
        taken(parts, MIB)


def test_the_guard_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a task came to, the next one is looked for."""
    from client.service import guard

    happens: list[BaseException] = [
        MemoryError(),
        httpx.ConnectError("x"),
        MemoryError(),
        SystemExit(),
    ]

    class Unlucky:
        room = None
        gpu = SimpleNamespace(returned=False)

        def __init__(self, *_: object) -> None: ...

        def work(self, runtime: object) -> None:
            raise happens.pop(0)

    monkeypatch.setattr(guard, "Guard", Unlucky)
    monkeypatch.setattr(guard, "Runtime", lambda *_: None)
    monkeypatch.setattr(guard, "take_tasks_within", lambda *_: None)
    monkeypatch.setattr(guard, "require_installed_code", lambda: None)
    monkeypatch.setattr(guard.signal, "signal", lambda *_: None)
    monkeypatch.setattr(guard, "AWAY_S", 0)
    folder = SimpleNamespace(secret=SimpleNamespace(read_bytes=lambda: b""), unfinished=None)
    monkeypatch.setattr(guard, "load_site", lambda path: None)
    monkeypatch.setattr(guard, "ServiceFolder", lambda site: folder)
    with pytest.raises(SystemExit):
        guard.main(Path("site.yaml"), 1)
    assert happens == []


if __name__ == "__main__":
    print(json.dumps(go_off(*sys.argv[1:])))
