"""Arrays survive encoding and decoding; unexpected content is refused with fixed messages."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from mama.config.federation import ExchangeConfig
from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import Shape, pack
from mama.exchange.codecs.coding import CODECS, decode, encode, uplink_codec
from mama.exchange.codecs.topk import TopK

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
NAMED = st.dictionaries(
    st.text(max_size=8),
    arrays_of.arrays(
        np.float32, arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=5), elements=FINITE
    ),
    max_size=4,
)
SHAPES: dict[str, Shape] = {"a": (2, 3), "b": ()}


def good() -> Arrays:
    return {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(1, np.float32)}


def shapes_of(arrays: Arrays) -> dict[str, Shape]:
    return {name: array.shape for name, array in arrays.items()}


@given(NAMED)
@settings(max_examples=60, deadline=None)
def test_fp32_returns_to_the_bit(arrays: Arrays) -> None:
    for found in (decode(encode(arrays)), decode(encode(arrays), shapes_of(arrays))):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == np.float32
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()


@given(NAMED, st.sampled_from(sorted(CODECS)))
@settings(max_examples=150, deadline=None)
def test_every_codec_returns_finite_arrays_of_the_same_shapes(arrays: Arrays, name: str) -> None:
    codec = CODECS[name]
    data = encode(arrays, codec)
    found = decode(data, shapes_of(arrays))
    assert shapes_of(found) == shapes_of(arrays)
    assert all(np.isfinite(array).all() for array in found.values())
    assert data == encode(arrays, codec)
    # What is decoded is the codec's own: coded once more, it loses nothing more.
    if name != "topk":
        again = decode(encode(found, codec))
        for key, array in found.items():
            np.testing.assert_allclose(again[key], array, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_scalars_empty_turned_and_wider_arrays(name: str) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    arrays = {
        "s": np.float32(2.5),
        "e": np.zeros((0, 3), np.float32),
        "t": turned,
        "d": np.float64(2),
    }
    found = decode(encode(arrays, TopK(1.0) if name == "topk" else CODECS[name]))
    assert shapes_of(found) == {"s": (), "e": (0, 3), "t": (3, 2), "d": ()}
    np.testing.assert_allclose(found["s"], 2.5, rtol=1e-6)
    np.testing.assert_allclose(found["t"], turned, atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("b"), "b: tensor is missing"),
        (lambda a: a.update({"evil\n\x1b[2J": a["a"]}), "1 unexpected tensors"),
        (lambda a: a.update(a=a["a"].T), "a: tensor has another shape"),
        (lambda a: a.update(b=a["b"][None]), "b: tensor has another shape"),
        (lambda a: a["a"].__setitem__((1, 2), np.nan), "a: tensor is not finite"),
        (lambda a: a.update(b=np.array(-np.inf, np.float32)), "b: tensor is not finite"),
    ],
)
def test_other_arrays_are_refused(change: Callable[[Arrays], object], message: str) -> None:
    arrays = good()
    change(arrays)
    with pytest.raises(ProtocolError) as error:
        decode(encode(arrays), SHAPES)
    assert str(error.value) == message


def test_names_of_a_block_that_nothing_is_known_of_are_not_repeated() -> None:
    with pytest.raises(ProtocolError) as error:
        decode(encode({"evil\n": np.array(np.nan, np.float32)}))
    assert str(error.value) == "tensor is not finite"


@pytest.mark.parametrize("codec", ["change", "evil", "fp33"])
def test_unknown_codecs_are_refused(codec: str) -> None:
    parts = {name: {"values": array.reshape(-1)} for name, array in good().items()}
    with pytest.raises(ProtocolError, match=r"^tensors have an unknown codec$"):
        decode(pack(codec, SHAPES, parts), SHAPES)


def topk_bomb(shape: Shape) -> bytes:
    nothing: dict[str, Any] = {"gaps": "u2", "levels": "i1", "scales": "f4"}
    return pack("topk", {"a": shape}, {"a": {k: np.zeros(0, v) for k, v in nothing.items()}})


@pytest.mark.parametrize("shape", [(2**31,), (2**20, 2**20), (2**48,) * 8, (2**48, 2**48, 0)])
def test_a_small_block_of_a_huge_tensor_is_refused_before_memory_is_taken(shape: Shape) -> None:
    with pytest.raises(ProtocolError, match=r"^tensors are larger than allowed$"):
        decode(topk_bomb(shape))
    with pytest.raises(ProtocolError, match=r"^a: tensor has another shape$"):
        decode(topk_bomb(shape), {"a": (2, 3)})


def test_the_allowance_is_exact() -> None:
    assert decode(topk_bomb((1000,)), max_bytes=4000)["a"].shape == (1000,)
    with pytest.raises(ProtocolError, match="larger than allowed"):
        decode(topk_bomb((1001,)), max_bytes=4000)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_the_config_chooses_the_codec(name: str) -> None:
    codec = uplink_codec(ExchangeConfig(up=name, keep=0.25))
    assert codec.name == name
    assert codec.lossy == (name != "fp32")
    if isinstance(codec, TopK):
        assert codec.keep == 0.25
