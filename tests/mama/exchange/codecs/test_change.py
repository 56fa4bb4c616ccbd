"""Deltas lead from one model to the next exactly, and to no other."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import digest_of, pack, unpack
from mama.exchange.codecs.change import NAME, apply_change, encode_change
from mama.exchange.codecs.coding import encode

RANDOM = np.random.default_rng(0)
OLD: Arrays = {
    "a": RANDOM.standard_normal((200, 300)).astype(np.float32),
    "b": np.array(-0.5, np.float32),
    "e": np.zeros((0, 2), np.float32),
}
NEW: Arrays = {
    name: (array + 1e-4 * RANDOM.standard_normal(array.shape)).astype(np.float32)
    for name, array in OLD.items()
}
BEFORE, AFTER = encode(OLD), encode(NEW)
FLOATS = arrays_of.arrays(
    np.float32, 6, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
)


def test_the_model_is_reached_to_the_bit_and_the_way_is_shorter() -> None:
    change = encode_change(BEFORE, AFTER)
    assert len(change) < 0.7 * len(AFTER)
    assert apply_change(unpack(change), BEFORE) == AFTER
    assert (unpack(change).base, unpack(change).target) == (digest_of(BEFORE), digest_of(AFTER))


@given(FLOATS, FLOATS)
@settings(max_examples=100, deadline=None)
def test_any_two_models(old: np.ndarray, new: np.ndarray) -> None:
    before, after = encode({"a": old}), encode({"a": new})
    assert apply_change(unpack(encode_change(before, after)), before) == after


def test_no_change_holds_no_tensor() -> None:
    change = encode_change(BEFORE, BEFORE)
    assert len(change) < 500
    assert apply_change(unpack(change), BEFORE) == BEFORE


def test_a_tensor_that_stays_costs_next_to_nothing() -> None:
    change = encode_change(BEFORE, encode(OLD | {"b": np.array(2, np.float32)}))
    assert len(change) < 0.01 * len(BEFORE)


def test_it_applies_to_its_own_model_only() -> None:
    with pytest.raises(ProtocolError, match="the delta is based on another model"):
        apply_change(unpack(encode_change(BEFORE, AFTER)), AFTER)
    with pytest.raises(ProtocolError, match="the delta is based on another model"):
        apply_change(unpack(AFTER), BEFORE)


def forged(deflated: bytes, *, name: str = "b", target: str = digest_of(AFTER)) -> bytes:
    parts = {**unpack(encode_change(BEFORE, AFTER)).parts}
    parts[name] = {"deflated": np.frombuffer(deflated, np.uint8)}
    shapes = {key: array.shape for key, array in OLD.items()}
    return pack(NAME, shapes, parts, base=digest_of(BEFORE), target=target)


@pytest.mark.parametrize(
    ("deflated", "message"),
    [
        (zlib.compress(bytes(50_000_000), 9), "b: tensor's delta has another size"),
        (zlib.compress(bytes(5)), "b: tensor's delta has another size"),
        (zlib.compress(bytes(3)), "b: tensor's delta has another size"),
        (zlib.compress(bytes(4)) + b"more", "b: tensor's delta has another size"),
        (zlib.compress(bytes(4))[:-1], "b: tensor's delta has another size"),
        (b"", "b: tensor's delta has another size"),
        (b"nonsense", "b: tensor's delta cannot be decompressed"),
        (zlib.compress(b"\0\0\0\x81"), "b: tensor is not finite"),
        (zlib.compress(bytes(4)), "the delta does not result in the model it names"),
    ],
)
def test_forged_changes(deflated: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as error:
        apply_change(unpack(forged(deflated)), BEFORE)
    assert str(error.value) == message


def test_other_tensors_than_the_models_are_refused() -> None:
    other = encode_change(encode({"a": OLD["a"]}), encode({"a": NEW["a"]}))
    block = unpack(other)._replace(base=digest_of(BEFORE))
    with pytest.raises(ProtocolError, match="b: tensor is missing"):
        apply_change(block, BEFORE)
    nameless = unpack(encode_change(BEFORE, AFTER))._replace(parts={name: {} for name in OLD})
    with pytest.raises(ProtocolError, match="other parts than its codec makes"):
        apply_change(nameless, BEFORE)
