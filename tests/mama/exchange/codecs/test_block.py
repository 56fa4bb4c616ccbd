"""Blocks: self-describing checksummed safetensors files, opened without trust or allocation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from mama.errors import ProtocolError
from mama.exchange.codecs.block import MAX_HEADER, OPENING, digest_of, pack, unpack

SHAPES = {"a": (2, 3), "b:c": ()}
PARTS = {
    "a": {"levels": np.arange(6, dtype=np.int8), "scales": np.array([0.5], np.float32)},
    "b:c": {"gaps": np.array([7], np.uint16), "bytes": np.array([1, 2, 3], np.uint8)},
}
BLOCK = pack("int8", SHAPES, PARTS, base="0" * 64, target="f" * 64)
DAMAGED = r"^tensors are damaged or of another format$"


def test_what_is_packed_is_unpacked() -> None:
    block = unpack(BLOCK)
    assert (block.codec, block.base, block.target) == ("int8", "0" * 64, "f" * 64)
    assert block.shapes == SHAPES
    assert {name: set(parts) for name, parts in block.parts.items()} == {
        name: set(parts) for name, parts in PARTS.items()
    }
    for name, parts in PARTS.items():
        for part, array in parts.items():
            found = block.parts[name][part]
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)


def test_parts_are_read_only_views_of_the_block() -> None:
    scales = unpack(BLOCK).parts["a"]["scales"]
    assert not scales.flags.writeable
    assert scales.flags.aligned
    assert np.shares_memory(scales, np.frombuffer(BLOCK, np.uint8))


def test_any_safetensors_reader_opens_it() -> None:
    found = load(BLOCK)
    assert set(found) == {"levels:a", "scales:a", "gaps:b:c", "bytes:b:c"}
    np.testing.assert_array_equal(found["levels:a"], PARTS["a"]["levels"])


def test_equal_tensors_give_equal_bytes_and_others_another_name() -> None:
    again = pack("int8", SHAPES, PARTS, base="0" * 64, target="f" * 64)
    turned = [dict(reversed(d.items())) for d in (SHAPES, PARTS)]
    assert pack("int8", turned[0], turned[1], base="0" * 64, target="f" * 64) == BLOCK
    other = pack("int8", SHAPES, PARTS)
    assert again == BLOCK
    assert digest_of(BLOCK) == digest_of(BLOCK[:4096]) == digest_of(again)
    assert digest_of(other) != digest_of(BLOCK)


def test_an_empty_block() -> None:
    block = unpack(pack("fp32", {}, {}))
    assert block.shapes == block.parts == {}


@given(st.integers(0, 8 * len(BLOCK) - 1))
def test_every_flipped_bit_is_found(bit: int) -> None:
    data = bytearray(BLOCK)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError, match=DAMAGED):
        unpack(bytes(data))


@given(st.integers(0, len(BLOCK) - 1))
def test_every_truncation_is_found(length: int) -> None:
    with pytest.raises(ProtocolError, match=DAMAGED):
        unpack(BLOCK[:length])


@pytest.mark.parametrize("more", [b"\0", b" ", BLOCK])
def test_what_follows_a_block_is_refused(more: bytes) -> None:
    with pytest.raises(ProtocolError, match=DAMAGED):
        unpack(BLOCK + more)


def test_a_plain_safetensors_file_is_no_block() -> None:
    from safetensors.numpy import save

    with pytest.raises(ProtocolError, match=DAMAGED):
        unpack(save({"a": np.ones(3, np.float32)}))


def test_another_version_is_refused() -> None:
    assert OPENING in BLOCK
    with pytest.raises(ProtocolError, match=DAMAGED):
        unpack(BLOCK.replace(b"fedmama-1", b"fedmama-2"))


@pytest.mark.parametrize("length", [0, 7, MAX_HEADER + 1, 2**63, 2**64 - 1])
def test_a_header_length_that_lies(length: int) -> None:
    with pytest.raises(ProtocolError, match=DAMAGED):
        unpack(length.to_bytes(8, "little") + BLOCK[8:])


def test_names_that_json_must_escape_survive() -> None:
    name = 'a"\\\n\x1b:é☃'
    block = unpack(pack("fp32", {name: (1,)}, {name: {"values": np.ones(1, np.float32)}}))
    assert list(block.parts) == [name]
