"""Validation of answers: one that differs from the request is refused; the round goes on."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import pack
from mama.exchange.codecs.coding import CODECS, decode, encode
from mama.exchange.metrics import EvaluationCounts, TrainingMetrics
from mama.exchange.protocol import Answer, Description, Kind, Task
from server.round.validation import check_answer, check_metrics, check_norm, check_update

TRAINED = TrainingMetrics(
    studies=8, patients=8, steps=2, skipped=0, seconds=1.0, terms={"loss": 1.0}
)
DESCRIBED = Description(fingerprint="0" * 64, trained_parameters=1, frozen_parameters=1)
SHAPES = {"head.weight": (2, 3), "logit_scale": ()}
UPDATE: Arrays = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "logit_scale": np.array(0.25, np.float32),
}


def task(kind: Kind = "train") -> Task:
    return Task(
        run="r1",
        round=3,
        task=f"{kind}-3-alder",
        kind=kind,
        experiment="{}",
        experiment_hash="0" * 64,
    )


def answer(**changed: Any) -> Answer:
    values = {
        "run": "r1",
        "round": 3,
        "task": "train-3-alder",
        "site": "alder",
        "status": "ok",
        "training": TRAINED,
    }
    return Answer(**(values | changed))


def test_the_right_answer_passes() -> None:
    check_answer(answer(), task(), "alder")
    check_answer(answer(), task(), None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"run": "r2"}, "another task"),
        ({"round": 2}, "another task"),
        ({"task": "train-3-birch"}, "another task"),
        ({"site": "birch"}, "another site"),
        ({"training": None}, "holds nothing"),
        ({"training": None, "evaluation": EvaluationCounts(counts={})}, "holds nothing"),
    ],
)
def test_an_answer_to_something_else_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        check_answer(answer(**changed), task(), "alder")


@pytest.mark.parametrize("kind", ["describe", "train", "evaluate"])
def test_an_answer_holds_what_its_kind_promises(kind: Kind) -> None:
    payloads = {
        "describe": {"description": DESCRIBED},
        "train": {"training": TRAINED},
        "evaluate": {"evaluation": EvaluationCounts(counts={})},
    }
    for held, payload in payloads.items():
        given_answer = answer(task=f"{kind}-3-alder", **({"training": None} | payload))
        if held == kind:
            check_answer(given_answer, task(kind), "alder")
        else:
            with pytest.raises(ProtocolError, match="holds nothing"):
                check_answer(given_answer, task(kind), "alder")


def test_a_good_update_comes_through_unchanged() -> None:
    update = check_update(encode(UPDATE), SHAPES)
    assert set(update) == set(UPDATE)
    for name, array in UPDATE.items():
        np.testing.assert_array_equal(update[name], array)


def with_value(value: float) -> Arrays:
    weight = UPDATE["head.weight"].copy()
    weight[1, 2] = value
    return UPDATE | {"head.weight": weight}


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (with_value(np.nan), "head.weight: tensor is not finite"),
        (with_value(np.inf), "head.weight: tensor is not finite"),
        (with_value(-np.inf), "head.weight: tensor is not finite"),
        (UPDATE | {"head.weight": np.zeros((3, 2), np.float32)}, "head.weight: .*another shape"),
        (UPDATE | {"logit_scale": np.zeros(1, np.float32)}, "logit_scale: .*another shape"),
        ({"head.weight": UPDATE["head.weight"]}, "logit_scale: tensor is missing"),
        (UPDATE | {"extra": np.zeros(1, np.float32)}, "unexpected tensor"),
        ({}, "head.weight: tensor is missing"),
    ],
)
def test_a_wrong_update_is_refused(update: Arrays, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        check_update(encode(update), SHAPES)


@given(st.integers(0, len(encode(UPDATE)) - 1))
def test_a_truncated_update_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        check_update(encode(UPDATE)[:length], SHAPES)


@given(st.integers(0, len(encode(UPDATE)) * 8 - 1))
def test_a_flipped_bit_is_refused(bit: int) -> None:
    data = bytearray(encode(UPDATE))
    data[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(ProtocolError):
        check_update(bytes(data), SHAPES)


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_update(data, SHAPES)


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("value", [1e38, -1e38, 2e6])
def test_a_hostile_site_cannot_make_the_mean_overflow(codec: str, value: float) -> None:
    """Each value is finite, but eight studies' weight would carry it past float32."""
    update = check_update(encode(with_value(value), CODECS[codec]), SHAPES)
    with pytest.raises(ProtocolError, match="changes the model beyond reason"):
        check_norm(update, 1.0, usual=1e30, limit=1e12)


def test_length_is_compared_as_if_all_steps_had_been_done() -> None:
    # sqrt(1 + 4 + 9 + 16 + 25 + 1/16)
    length = 55.0625**0.5
    assert check_norm(UPDATE, 1.0, usual=1.0, limit=8.0) == pytest.approx(length)
    assert check_norm(UPDATE, 0.5, usual=1.0, limit=15.0) == pytest.approx(2 * length)
    with pytest.raises(ProtocolError, match=r"is 14\.8 times as long as usual, above 14"):
        check_norm(UPDATE, 0.5, usual=1.0, limit=14.0)


def test_work_that_cannot_have_been_done_is_refused() -> None:
    check_metrics(TRAINED, planned=2, studies_before=None)
    check_metrics(TRAINED, planned=2, studies_before=4)
    for planned, before, message in (
        (1, None, "claims 2 steps of 1"),
        (2, 3, "claims 8 studies, more than 2 times the 3 of before"),
    ):
        with pytest.raises(ProtocolError, match=message):
            check_metrics(TRAINED, planned=planned, studies_before=before)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_an_update_of_every_codec_comes_through(codec: str) -> None:
    update = check_update(encode(UPDATE, CODECS[codec]), SHAPES)
    assert {name: array.shape for name, array in update.items()} == SHAPES
    assert update["head.weight"].max() == pytest.approx(5, rel=0.01)


def _poisoned(data: bytes, value: float) -> bytes:
    arrays = decode(data)
    name = sorted(arrays)[0]
    arrays[name] = np.full_like(arrays[name], value)
    return encode(arrays)


def _reshaped(data: bytes) -> bytes:
    return encode({name: array.reshape(-1, 1) for name, array in decode(data).items()})


def _half(data: bytes) -> bytes:
    arrays = decode(data)
    parts = {n: {"values": a.astype(np.float16).view(np.uint16)} for n, a in arrays.items()}
    return pack("fp32", {name: array.shape for name, array in arrays.items()}, parts)


def _bomb(data: bytes) -> bytes:
    shapes = {name: (2**20, 2**20) for name in decode(data)}
    empty = {"gaps": np.zeros(0, "u2"), "levels": np.zeros(0, "i1"), "scales": np.zeros(0, "f4")}
    return pack("topk", shapes, dict.fromkeys(shapes, empty))


def _flipped(data: bytes) -> bytes:
    # The header's first character.
    return data[:8] + bytes([data[8] ^ 1]) + data[9:]


def _without_one(data: bytes) -> bytes:
    return encode(dict(sorted(decode(data).items())[1:]))


def _with_another(data: bytes) -> bytes:
    return encode(decode(data) | {"gift": np.zeros(1, np.float32)})


MISCHIEF = [
    lambda header, data: (header, _poisoned(data, np.nan)),
    lambda header, data: (header, _poisoned(data, np.inf)),
    lambda header, data: (header, _poisoned(data, 3e38)),
    lambda header, data: (header, _reshaped(data)),
    lambda header, data: (header, _half(data)),
    lambda header, data: (header, _bomb(data)),
    lambda header, data: (header, _without_one(data)),
    lambda header, data: (header, _with_another(data)),
    lambda header, data: (header, data[:-100]),
    lambda header, data: (header, _flipped(data)),
    lambda header, data: (header, b""),
    lambda header, data: (_edited(header, run="another"), data),
    lambda header, data: (_edited(header, round=77), data),
    lambda header, data: (_edited(header, task="train-1-alder"), data),
    lambda header, data: (_edited(header, site="alder"), data),
    lambda header, data: (_edited(header, protocol=4), data),
    lambda header, data: (_edited(header, patient="Mary Smith"), data),
    lambda header, data: (header.replace('"seconds":', '"seconds":-'), data),
    lambda header, data: (header.replace('"loss":', '"loss":1e308,"loss":'), data),
    lambda header, data: ("[" * 100_000, data),
    lambda header, data: ("null", data),
    lambda header, data: ('{"site": "Mary Smith"', data),
    lambda header, data: (" " * 5_000_000, data),
]


def _edited(header: str, **values: Any) -> str:
    return json.dumps(json.loads(header) | values)


def test_a_round_goes_on_without_the_site_whose_answer_is_bad(run_federation) -> None:
    """One run in which birch misbehaves in each round in another way."""

    def change(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
        if site == "birch" and kind == "train":
            return MISCHIEF[number - 1](header, data)
        return header, data

    outcome = run_federation(
        change,
        f"federation.rounds={len(MISCHIEF)}",
        "federation.local_steps=1",
        "participation.pause_after=0",
    )

    assert [(p["round"], p["site"], p["code"]) for p in outcome.problems] == [
        (number, "birch", "refused") for number in range(1, len(MISCHIEF) + 1)
    ]
    assert all(sorted(event["sites"]) == ["alder", "cedar"] for event in outcome.rounds)
    assert outcome.metrics["status"] == "finished"
    assert all(np.isfinite(array).all() for array in outcome.folder.latest().arrays.values())
    written = "".join(p.read_text() for p in outcome.folder.path.glob("*.json*"))
    assert "Mary" not in written
    assert "gift" not in written
