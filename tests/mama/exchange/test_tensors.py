"""Exchanged tensors: only trained ones, checked before they are loaded into a model."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from mama.errors import ModelError, ProtocolError
from mama.exchange.arrays import Arrays, check_arrays, difference
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.tensors import put_trained, trained_arrays
from mama.model import MaMA


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
