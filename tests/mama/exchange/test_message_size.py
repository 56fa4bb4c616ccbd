"""The computed size of a message equals Flower's; excess is refused before assembly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.errors import ProtocolError
from mama.exchange.codecs.change import encode_change
from mama.exchange.codecs.coding import CODECS, encode
from mama.exchange.message_size import (
    EXTRA_PIECES,
    HEADERS,
    MIN_PIECE,
    MessageSize,
    most_bytes,
)

pytest.importorskip("flwr")
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

PIECE = 5 * 2**20


def size_of(record: RecordDict, room: int, **changed: bytes) -> MessageSize:
    size = MessageSize(room)
    for name, one in get_all_nested_objects(record).items():
        size.add(name, one.deflate())
    size.require_room()
    return size


def holding(*data: bytes) -> RecordDict:
    arrays = {str(i): Array("uint8", (len(d),), "raw", d) for i, d in enumerate(data)}
    return RecordDict(
        {"header": ConfigRecord({"json": "x" * 1000}), "payload": ArrayRecord(arrays)}
    )


@pytest.mark.parametrize(
    "data",
    [
        [b""],
        [b"a"],
        [bytes(3 * PIECE)],  # one piece three times
        [b"a" * PIECE + b"b" * PIECE + b"a" * PIECE + b"c"],
        [b"a" * 1000, b"b" * 1000],
        [b"a" * 1000, b"a" * 1000 + b"b"],
    ],
)
def test_arrays_that_just_fit(data: list[bytes]) -> None:
    record, whole = holding(*data), sum(map(len, data))
    size_of(record, whole)
    if whole:
        with pytest.raises(ProtocolError, match="too large"):
            size_of(record, whole - 1)


def counted(*contents: bytes, room: int = 2**20) -> None:
    size = MessageSize(room)
    for place, content in enumerate(contents):
        size.add(str(place), content)
    size.require_room()


def array(children: str, places: str) -> bytes:
    body = b'{"arraychunk_ids": %s}' % places.encode()
    return b"Array %s %d\0%s" % (children.encode(), len(body), body)


CHUNK = b"ArrayChunk  4\0abcd"


@pytest.mark.parametrize(
    "places", ["[0, 0, 0, 0]", "[0, -1, 0, 0]", "[false, 0, -1, false]", "[0.0]", "[2]"]
)
@pytest.mark.parametrize("children", ["0", "0,0"])
def test_a_chunk_counts_as_often_as_it_is_used(places: str, children: str) -> None:
    with pytest.raises(ProtocolError):
        counted(CHUNK, array(children, places), room=12)


@pytest.mark.parametrize(
    "content",
    [
        array("0", "[2]"),
        array("1", "[0]"),  # an array of itself
        array("9", "[0]"),
        array("", "[0]"),
        array("0", '["0"]'),
        array("0", "null"),
        array("0", "7"),
        array("0", "[" * 100_000),
        array("0", "9" * 5000),
        b"Array 0 1",
        b"Array 0",
        b"Array \xff 1\0{}",
        b"Array 0 4\0" + '{"arraychunk_ids": [0]}'.encode("utf-16"),
        b"ArrayChunk 0,0,0 4\0abcd",
        b"ArrayChunk  4",
        b"ArrayChunk " + b"," * 1000 + b" 4\0abcd",
        b"ArrayChunk  " + b"9" * 100 + b"\0abcd",
    ],
)
def test_what_is_no_piece(content: bytes) -> None:
    with pytest.raises(ProtocolError, match="damaged"):
        counted(CHUNK, content)


@pytest.mark.parametrize("kind", [b"RecordDict", b"ConfigRecord", b"Message", b"Array", b"\0", b""])
def test_other_pieces_have_little_room_whatever_the_arrays_have(kind: bytes) -> None:
    counted(kind + b" 0 1\0" + bytes(1000) if kind != b"Array" else array("", "[]"))
    with pytest.raises(ProtocolError, match="too large"):
        counted(*[kind + b" 0 1\0" + bytes(HEADERS // 10)] * 11, room=2**20)


def test_names_are_counted_before_they_are_kept() -> None:
    assert MessageSize(0).distinct("abcab") == ["a", "b", "c"]
    endless = iter(lambda: "a", None)
    with pytest.raises(ProtocolError, match="too many pieces"):
        MessageSize(0).distinct(endless)
    room = 100 * MIN_PIECE
    assert (
        len(MessageSize(room).distinct(map(str, range(EXTRA_PIECES + 100)))) == EXTRA_PIECES + 100
    )


@given(st.integers(1, 3000), st.integers(0, 2**32), st.sampled_from(sorted(CODECS)))
@settings(max_examples=200, deadline=None)
def test_no_block_is_larger_than_its_values_allow(values: int, seed: int, codec: str) -> None:
    random = np.random.default_rng(seed)
    model = {"a": random.standard_normal(values).astype(np.float32)}
    header = 4 * 2**20 - 2000  # what `most_bytes` keeps for names is not what is tried here
    assert len(encode(model, CODECS[codec])) <= most_bytes(values) - header
    other = {"a": random.standard_normal(values).astype(np.float32)}
    assert len(encode_change(encode(model), encode(other))) <= most_bytes(values) - header
