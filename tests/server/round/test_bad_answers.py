"""Answers that are not what they should be are refused with the reason, and the round goes on."""

import json

import numpy as np
import pytest

from mama.exchange.codecs.block import pack
from mama.exchange.codecs.coding import decode, encode
from tests.server.faults import SHAPES, Fault, assert_same, of, only, replayed


def changed(update: dict) -> bytes:
    return encode({name: np.asarray(array, np.float32) for name, array in update.items()})


def _with(data: bytes, **arrays) -> bytes:
    return changed(decode(data) | arrays)


def _flipped(data: bytes) -> bytes:
    middle = len(data) - 9
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


def _bomb(data: bytes) -> bytes:
    empty = {"gaps": np.zeros(0, "u2"), "levels": np.zeros(0, "i1"), "scales": np.zeros(0, "f4")}
    shapes = dict.fromkeys(SHAPES, (2**20, 2**20))
    return pack("topk", shapes, dict.fromkeys(SHAPES, empty))


def _header(header: str, **values) -> str:
    return json.dumps(json.loads(header) | values)


def _training(header: str, **values) -> str:
    training = json.loads(header)["training"] | values
    return _header(header, training=training)


BAD = {
    "NaN": (lambda h, d: (h, _with(d, bias=np.full(5, np.nan))), "bias: tensor is not finite"),
    "infinite": (lambda h, d: (h, _with(d, bias=np.full(5, np.inf))), "bias: tensor is not finite"),
    "wrong shape": (
        lambda h, d: (h, _with(d, weight=np.zeros((4, 3)))),
        "weight: tensor has another shape",
    ),
    "missing tensor": (
        lambda h, d: (h, changed({"weight": decode(d)["weight"]})),
        "bias: tensor is missing",
    ),
    "extra tensor": (lambda h, d: (h, _with(d, gift=np.zeros(1))), "1 unexpected tensors"),
    "other run": (lambda h, d: (_header(h, run="another"), d), "answer belongs to another task"),
    "other round": (lambda h, d: (_header(h, round=1), d), "answer belongs to another task"),
    "other site": (lambda h, d: (_header(h, site="alder"), d), "answer is signed by another site"),
    "bit flip": (lambda h, d: (h, _flipped(d)), "tensors are damaged or of another format"),
    "truncated": (lambda h, d: (h, d[:-7]), "tensors are damaged or of another format"),
    "bomb": (lambda h, d: (h, _bomb(d)), "tensor has another shape"),
    "a million times the norm": (
        lambda h, d: (h, changed({n: 1e6 * a for n, a in decode(d).items()})),
        "times as long as usual",
    ),
    "a hundred times the norm": (
        lambda h, d: (h, changed({n: 1e2 * a for n, a in decode(d).items()})),
        "times as long as usual, above 10",
    ),
    "too many studies": (
        lambda h, d: (_training(h, studies=9000, patients=4), d),
        "claims 9000 studies, more than 2 times the 4 of before",
    ),
    "too many steps": (lambda h, d: (_training(h, steps=5), d), "claims 5 steps of 4"),
    "no steps": (lambda h, d: (_training(h, steps=0), d), "claims 0 steps of 4"),
    "nonsense": (lambda h, d: ("{", d), "header does not follow the protocol"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_is_refused_and_the_round_goes_on(make_world, kind: str) -> None:
    change, reason = BAD[kind]
    world = make_world(only("birch", 2, Fault(change=change))).run()
    ((number, site, problem),) = world.problems
    assert (number, site) == (2, "birch")
    assert reason in problem
    assert_same(world.model, replayed([of(1), of(2, "alder", "cedar"), of(3)]))


def test_a_million_times_the_norm_is_refused_in_the_first_round_too(make_world) -> None:
    change, _ = BAD["a million times the norm"]
    world = make_world(only("alder", 1, Fault(change=change))).run()
    assert [(n, s) for n, s, _ in world.problems] == [(1, "alder")]
    assert_same(world.model, replayed([of(1, "birch", "cedar"), of(2), of(3)]))
