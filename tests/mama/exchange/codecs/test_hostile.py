"""Hostile blocks with a right checksum.

Each is a ProtocolError or decodes to exactly what it claims, in little memory.
"""

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import DTYPES, OPENING, Shape, digest_of, pack, unpack
from mama.exchange.codecs.change import NAME, apply_change, encode_change
from mama.exchange.codecs.coding import CODECS, decode, encode

RANDOM = np.random.default_rng(0)
MODEL: Arrays = {
    "head.weight": RANDOM.standard_normal((5, 60)).astype(np.float32),
    "scale": np.array(0.25, np.float32),
}
SHAPES: dict[str, Shape] = {name: array.shape for name, array in MODEL.items()}
BLOCKS = {name: encode(MODEL, codec) for name, codec in CODECS.items()}
BEFORE = encode({name: array * np.float32(0.999) for name, array in MODEL.items()})
CHANGE = encode_change(BEFORE, BLOCKS["fp32"])
START = 8 + len(OPENING) + 64
# Far below what any of the claims below would take, far above what the test's own objects do.
ALLOWED = 8 * 2**20
EVIL = "EVIL\x1b[2J"


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < ALLOWED


def sealed(rest: bytes, length: int) -> bytes:
    """A block with a right checksum over whatever follows it."""
    digest = hashlib.sha256(rest).hexdigest().encode()
    return length.to_bytes(8, "little") + OPENING + digest + rest


def read(data: bytes) -> Arrays | None:
    """What is read of a block by one who knows nothing of it; None where it is refused.

    In passing: who knows what to expect gets that or a refusal, refusals are fixed words, and
    little memory is used.
    """
    refusals: list[str] = []

    def tried(opening: Callable[[], Any]) -> Any:
        try:
            return opening()
        except ProtocolError as error:
            refusals.append(str(error))
            return None

    with little_memory():
        expected = tried(lambda: decode(data, SHAPES))
        found = tried(lambda: decode(data, max_bytes=2**20))
        after = tried(lambda: apply_change(unpack(data), BEFORE))
    for arrays in (expected, found):
        for array in (arrays or {}).values():
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
    if expected is not None:
        assert {name: array.shape for name, array in expected.items()} == SHAPES
    if after is not None:
        assert digest_of(after).encode() in data
    assert all("EVIL" not in text and len(text) < 100 for text in refusals)
    return found


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_random_bytes(data: bytes) -> None:
    assert read(data) is None
    assert read(len(data).to_bytes(8, "little") + data) is None
    assert read(sealed(data, len(OPENING) + 64 + len(data))) is None


@given(
    st.sampled_from([*BLOCKS.values(), CHANGE]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_flipped_bits_under_the_checksum_are_found(
    block: bytes, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(block)
    for place, mask in flips:
        data[place % len(data)] ^= mask
    if bytes(data) != block:
        assert read(bytes(data)) is None


@given(
    st.sampled_from([*BLOCKS.values(), CHANGE]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=4),
    st.integers(-40, 40),
    st.integers(-40, 40),
)
@settings(max_examples=600, deadline=None)
def test_mutated_blocks_with_a_right_checksum(
    block: bytes, flips: list[tuple[int, int]], longer: int, header_longer: int
) -> None:
    rest = bytearray(block[START:])
    for place, mask in flips:
        rest[place % len(rest)] ^= mask
    cut = bytes(rest[: len(rest) + min(longer, 0)]) + b"\0" * max(longer, 0)
    read(sealed(cut, int.from_bytes(block[:8], "little") + header_longer))


@given(
    st.sampled_from([*BLOCKS.values(), CHANGE]),
    st.sampled_from(sorted(SHAPES)),
    st.data(),
)
@settings(max_examples=400, deadline=None)
def test_parts_that_lie(block: bytes, name: str, data: st.DataObject) -> None:
    """Whole block with other bytes in one part, most often of the right type and length."""
    opened = unpack(block)
    part = data.draw(st.sampled_from(sorted(opened.parts[name])))
    right = opened.parts[name][part]
    dtype = data.draw(st.just(right.dtype) | st.sampled_from(list(DTYPES.values())))
    size = data.draw(st.just(right.size) | st.integers(0, 400))
    content = data.draw(st.binary(min_size=8, max_size=64)) * (size * dtype.itemsize // 8 + 1)
    opened.parts[name][part] = np.frombuffer(content, dtype, size)
    shape = data.draw(st.just(opened.shapes[name]) | st.lists(st.integers(0, 2**48), max_size=8))
    read(pack(opened.codec, opened.shapes | {name: tuple(shape)}, opened.parts))
    if opened.codec == NAME:
        named = pack(NAME, opened.shapes, opened.parts, base=opened.base, target=opened.target)
        assert read(named) is None


NUMBERS = (
    st.sampled_from([-1, 0, 1, 60, 300, 2**31, 2**32, 2**48, 2**63, 2**64, 10**30, 1.0, True, None])
    | st.integers()
)
JSON = st.recursive(
    NUMBERS | st.text(max_size=4) | st.sampled_from(["F32", "F64", "BF16", "I8", "fp32", EVIL]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@given(st.sampled_from([*BLOCKS.values(), CHANGE]), st.data())
@settings(max_examples=600, deadline=None)
def test_headers_that_lie(block: bytes, data: st.DataObject) -> None:
    """Replace, remove or add one value anywhere in the header or the shapes inside of it."""
    length = int.from_bytes(block[:8], "little")
    header: dict[str, Any] = json.loads(block[8 : 8 + length])
    header["__metadata__"]["shapes"] = json.loads(header["__metadata__"]["shapes"])
    place: Any = header
    while True:
        if isinstance(place, dict):
            key = data.draw(st.sampled_from([*place, EVIL]))
        else:
            key = data.draw(st.integers(0, len(place) - 1))
        inner = place.get(key) if isinstance(place, dict) else place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    if isinstance(place, dict) and data.draw(st.booleans()):
        place.pop(key, None)
    else:
        place[key] = data.draw(JSON)
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and "shapes" in metadata:
        metadata["shapes"] = json.dumps(metadata["shapes"])
    read(with_header(header, block[8 + length :]))


def with_header(header: dict[str, Any], content: bytes) -> bytes:
    """Block with this header, and a right checksum unless the header's opening was changed."""
    text = json.dumps(header, separators=(",", ":")).encode()
    if not text.startswith(OPENING):
        return len(text).to_bytes(8, "little") + text + content
    return sealed(text[len(OPENING) + 64 :] + content, len(text))


def test_the_forger_of_these_tests_can_make_a_good_block() -> None:
    for block in BLOCKS.values():
        length = int.from_bytes(block[:8], "little")
        assert read(with_header(json.loads(block[8 : 8 + length]), block[8 + length :])) is not None


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "9" * 5000, '"\\ud800"', "1e999"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_headers_that_break_parsers(text: str, inside: bool) -> None:
    shapes = json.dumps(text) if inside else text
    rest = f'","codec":"fp32","shapes":{shapes}}}}}'.encode()
    assert read(sealed(rest, len(OPENING) + 64 + len(rest))) is None


@pytest.mark.parametrize("codec", [*CODECS, NAME])
@pytest.mark.parametrize("shape", [(2**30,), (2**24, 2**24), (2**48,) * 8])
def test_huge_claims_take_no_memory(codec: str, shape: Shape) -> None:
    block = unpack(BLOCKS.get(codec, CHANGE))
    data = pack(
        codec,
        dict.fromkeys(block.shapes, shape),
        block.parts,
        base=digest_of(BEFORE),
        target="0" * 64,
    )
    assert read(data) is None
    with little_memory(), pytest.raises(ProtocolError):
        decode(data)


def test_parts_of_one_codec_in_the_name_of_another() -> None:
    for one, block in BLOCKS.items():
        for other in CODECS:
            if one != other:
                opened = unpack(block)
                assert read(pack(other, opened.shapes, opened.parts)) is None
