"""Tensors that travel: exact round trips, nothing but ProtocolError for hostile bytes, and only the trained ones."""

import json
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from torch import nn

from mama.errors import ModelError, ProtocolError
from mama.exchange.tensors import (
    Arrays,
    check_arrays,
    decode,
    difference,
    encode,
    put_trained,
    trained_arrays,
)
from mama.model import MaMA

BLOCK = encode({"a": np.ones((2, 3), np.float32), "b": np.float32(7)})


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        arrays_of.arrays(np.float32, arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=4)),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_arrays_return_to_the_bit(arrays: Arrays) -> None:
    found = decode(encode(arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_scalars_empty_and_turned_arrays() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    found = decode(encode({"s": np.float32(2.5), "e": np.zeros((0, 3), np.float32), "t": turned}))
    assert found["s"].shape == ()
    assert found["s"] == 2.5
    assert found["e"].shape == (0, 3)
    assert np.array_equal(found["t"], turned)


def decoded_or_refused(data: bytes) -> None:
    try:
        arrays = decode(data)
    except ProtocolError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes(data: bytes) -> None:
    decoded_or_refused(data)
    decoded_or_refused(struct.pack("<Q", len(data)) + data)


@given(
    st.lists(st.tuples(st.integers(0, len(BLOCK) - 1), st.integers(1, 255)), max_size=3), st.data()
)
@settings(max_examples=300, deadline=None)
def test_flipped_and_truncated_blocks(flips: list[tuple[int, int]], data: st.DataObject) -> None:
    block = bytearray(BLOCK)
    for place, mask in flips:
        block[place] ^= mask
    decoded_or_refused(bytes(block))
    with pytest.raises(ProtocolError, match=r"^tensors are damaged or of another format$"):
        decode(BLOCK[: data.draw(st.integers(0, len(BLOCK) - 1))])


@given(
    st.sampled_from(
        ["F64", "F32", "F16", "BF16", "F8_E4M3", "F4", "C64", "I64", "U8", "BOOL", "X"]
    ),
    st.lists(st.integers(-1, 2**63), max_size=3),
    st.lists(st.integers(0, 64), max_size=3),
    st.binary(max_size=64),
)
@settings(max_examples=150, deadline=None)
def test_headers_that_lie(dtype: str, shape: list[int], offsets: list[int], data: bytes) -> None:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    header = json.dumps({"a": entry}).encode()
    decoded_or_refused(struct.pack("<Q", len(header)) + header + data)


def good() -> Arrays:
    return {"a": np.ones((2, 3), np.float32), "b": np.array(1, np.float32)}


SHAPES: dict[str, tuple[int, ...]] = {"a": (2, 3), "b": ()}


def test_whole_arrays_pass() -> None:
    check_arrays(good(), SHAPES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("b"), "b: tensor is missing"),
        (lambda a: a.update({"evil\n\x1b[2J": a["a"]}), "1 unexpected tensors"),
        (lambda a: a.update(a=a["a"].astype(np.float64)), "a: tensor is not float32"),
        (lambda a: a.update(a=a["a"].astype(">f4")), "a: tensor is not float32"),
        (lambda a: a.update(a=a["a"].T), "a: tensor has another shape"),
        (lambda a: a.update(b=a["b"][None]), "b: tensor has another shape"),
        (lambda a: a["a"].__setitem__((1, 2), np.nan), "a: tensor is not finite"),
        (lambda a: a.update(b=np.array(np.inf, np.float32)), "b: tensor is not finite"),
    ],
)
def test_other_arrays_are_refused(change: Callable[[Arrays], object], message: str) -> None:
    arrays = good()
    change(arrays)
    with pytest.raises(ProtocolError) as error:
        check_arrays(arrays, SHAPES)
    assert str(error.value) == message


def test_only_trained_parameters_travel_and_as_copies(model: MaMA) -> None:
    arrays = trained_arrays(model)
    assert arrays.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert {"text.separator", "logit_scale"} < arrays.keys()
    assert not any("text.backbone" in name and "lora_" not in name for name in arrays)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    arrays["text.separator"][:] = 9
    assert not model.text.separator.any()


def test_an_update_carries_one_model_to_another(model: MaMA) -> None:
    before = trained_arrays(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator)
    after = trained_arrays(model)
    update = difference(after, before)
    assert np.array_equal(update["logit_scale"], after["logit_scale"] - before["logit_scale"])
    put_trained(model, before)
    assert all(np.array_equal(array, before[n]) for n, array in trained_arrays(model).items())
    put_trained(model, decode(encode(after)))
    assert all(np.array_equal(array, after[n]) for n, array in trained_arrays(model).items())


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "nan"])
def test_a_refused_update_leaves_the_model_alone(model: MaMA, fault: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    arrays = {name: array + 1 for name, array in trained_arrays(model).items()}
    last = list(arrays)[-1]
    if fault == "missing":
        del arrays[last]
    elif fault == "extra":
        frozen = next(n for n, p in model.named_parameters() if not p.requires_grad)
        arrays[frozen] = np.zeros(1, np.float32)
    elif fault == "shape":
        arrays[last] = np.zeros((1, 2, 3), np.float32)
    else:
        arrays[last] = np.full_like(arrays[last], np.nan)
    with pytest.raises(ProtocolError):
        put_trained(model, arrays)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_running_statistics_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(ModelError, match="keeps running statistics") as error:
        trained_arrays(model)
    assert "heads.norm: layer" in str(error.value)
