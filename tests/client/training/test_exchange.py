"""Site's end of the wire: lossy codings of updates, and models whole or as deltas."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.errors import RefusedError
from client.handlers import answer
from client.site.config import SiteFile, load_site
from client.training.exchange import Link
from mama.config.federation import ExchangeConfig
from mama.errors import ProtocolError, TrainingError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import Shape, digest_of, unpack
from mama.exchange.codecs.change import encode_change
from mama.exchange.codecs.coding import CODECS, decode, encode, uplink_codec
from mama.exchange.codecs.feedback import ErrorFeedback
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task

RANDOM = np.random.default_rng(0)
SHAPES: dict[str, Shape] = {"a": (30, 40), "b": ()}
MODELS = [
    {name: RANDOM.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    for _ in range(4)
]
BLOCKS = [encode(model) for model in MODELS]


@pytest.fixture
def site(site_file: Path) -> SiteFile:
    return load_site(site_file)


@pytest.fixture
def link(site: SiteFile) -> Callable[..., Link]:
    """A link of a process that knows only what is on the disk."""
    return lambda **config: Link(site, "run-1", ExchangeConfig(**config))


def same(one: Arrays, two: Arrays) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[n], two[n]) for n in two)


def test_fp32_is_exact_and_keeps_nothing(link: Callable[..., Link], site: SiteFile) -> None:
    assert same(decode(link().send(MODELS[0], 1)), MODELS[0])
    assert same(link().receive(BLOCKS[0], SHAPES), MODELS[0])
    assert link().holds() is None
    assert not (site.state / "runs" / "run-1").exists()


@pytest.mark.parametrize("up", ["bf16", "int8", "topk"])
def test_what_a_coding_loses_is_sent_later_across_restarts(
    link: Callable[..., Link], up: str
) -> None:
    decoded = [decode(link(up=up, keep=0.2).send(MODELS[n - 1], n)) for n in (1, 2, 3)]
    feedback, codec = ErrorFeedback(), uplink_codec(ExchangeConfig(up=up, keep=0.2))
    for number in range(3):
        assert same(decoded[number], decode(feedback.encode(MODELS[number], codec)))


def test_a_round_asked_for_again_starts_from_the_residual_it_started_from(
    link: Callable[..., Link], site: SiteFile
) -> None:
    link(up="int8").send(MODELS[0], 1)
    second = link(up="int8").send(MODELS[1], 2)
    assert link(up="int8").send(MODELS[1], 2) == second
    link(up="int8").send(MODELS[2], 5)
    names = sorted(path.name for path in (site.state / "runs" / "run-1" / "residual").iterdir())
    assert names == [f"round-{number:06d}.safetensors" for number in (1, 2, 5)]


def test_a_damaged_residual_costs_the_residual_not_the_round(
    link: Callable[..., Link], caplog: pytest.LogCaptureFixture
) -> None:
    link(up="int8").send(MODELS[0], 1)
    path = link().residuals.of(1)
    path.write_bytes(path.read_bytes()[:50])
    assert link(up="int8").send(MODELS[1], 2) == encode(MODELS[1], CODECS["int8"])
    assert "weights cannot be read" in caplog.text


@pytest.mark.parametrize("up", ["fp32", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_never_sent_nor_kept(
    link: Callable[..., Link], up: str, value: float
) -> None:
    with pytest.raises(TrainingError, match="round 1: the update is not finite"):
        link(up=up).send(MODELS[0] | {"b": np.array(value, np.float32)}, 1)
    assert link().residuals.before(2) is None


def test_a_chain_of_models_whole_and_as_changes(link: Callable[..., Link]) -> None:
    assert link(down="delta").holds() is None
    assert same(link(down="delta").receive(BLOCKS[0], SHAPES), MODELS[0])
    for old, new in ((0, 1), (1, 1), (1, 2)):
        change = encode_change(BLOCKS[old], BLOCKS[new])
        for _ in range(2):  # sent again after a crash
            assert same(link(down="delta").receive(change, SHAPES), MODELS[new])
            assert link(down="delta").holds() == digest_of(BLOCKS[new])


@pytest.mark.parametrize("held", [None, 0, "damaged", "of other tensors"])
def test_a_change_to_a_model_that_is_not_held_is_refused_by_code(
    link: Callable[..., Link], held: object
) -> None:
    if held == 0:
        link(down="delta").receive(BLOCKS[0], SHAPES)
    elif held is not None:
        link(down="delta").receive(BLOCKS[1], SHAPES)
        path = link().model
        other = encode({"a": MODELS[1]["a"]})
        path.write_bytes(path.read_bytes()[:-1] if held == "damaged" else other)
    with pytest.raises(RefusedError) as error:
        link(down="delta").receive(encode_change(BLOCKS[1], BLOCKS[2]), SHAPES)
    assert error.value.code == ErrorCode.NO_MODEL
    # The whole model mends it.
    assert same(link(down="delta").receive(BLOCKS[1], SHAPES), MODELS[1])
    assert link(down="delta").holds() == digest_of(BLOCKS[1])
    change = encode_change(BLOCKS[1], BLOCKS[2])
    assert same(link(down="delta").receive(change, SHAPES), MODELS[2])


def test_a_change_that_leads_astray_leaves_the_held_model(link: Callable[..., Link]) -> None:
    link(down="delta").receive(BLOCKS[0], SHAPES)
    wrong = bytearray(encode_change(BLOCKS[0], BLOCKS[1]))
    wrong[-1] ^= 1
    with pytest.raises(ProtocolError):
        link(down="delta").receive(bytes(wrong), SHAPES)
    assert link(down="delta").holds() == digest_of(BLOCKS[0])


@pytest.mark.parametrize("text", [b"", b"short", b"x" * 5000])
def test_nonsense_in_place_of_the_model_is_not_held(link: Callable[..., Link], text: bytes) -> None:
    link(down="delta").receive(BLOCKS[0], SHAPES)
    link().model.write_bytes(text)
    assert link(down="delta").holds() is None


def test_answers_say_what_is_held_and_are_the_same_when_asked_again(
    site: SiteFile,
    make_task: Callable[..., Task],
    payload: bytes,
    small_config: Callable[..., object],
) -> None:
    of = small_config(
        "exchange={up: int8, down: delta}",
    ).experiment()  # type: ignore[attr-defined]
    steps: list[int] = []

    def ask(kind: str, data: bytes = b"", **changed: object) -> tuple:
        header = make_task(kind, of=of, **changed).encode()
        return answer(site, header, data, lambda _, step: steps.append(step))

    described, _ = ask("describe")
    assert described.holds is None
    first, update = ask("train", payload)
    assert first.holds == digest_of(payload)
    assert unpack(update).codec == "int8"
    residual = Link(site, "run-1", of.exchange).residuals.of(1).read_bytes()
    assert ask("train", payload) == (first, update)
    assert len(steps) == 2
    assert Link(site, "run-1", of.exchange).residuals.of(1).read_bytes() == residual
    assert ask("describe")[0].holds == digest_of(payload)

    same_model = encode_change(payload, payload)
    evaluated, _ = ask("evaluate", same_model)
    assert (evaluated.status, evaluated.holds) == ("ok", digest_of(payload))
    refused, nothing = ask("train", same_model, run="run-2")
    assert (refused.status, refused.holds, nothing) == (ErrorCode.NO_MODEL, None, b"")
