"""Error feedback: nothing is lost for good, and the decoded sum follows the true sum."""

import numpy as np
import pytest

from mama.exchange.arrays import Arrays
from mama.exchange.codecs.base import Codec
from mama.exchange.codecs.coding import CODECS, decode, encode
from mama.exchange.codecs.feedback import ErrorFeedback
from mama.exchange.codecs.topk import TopK

LOSSY = [CODECS["bf16"], CODECS["int8"], TopK(0.05)]


def updates(rounds: int) -> list[Arrays]:
    random = np.random.default_rng(0)
    return [
        {
            "matrix": random.standard_normal((40, 70)).astype(np.float32),
            "scalar": np.float32(random.standard_normal()),
        }
        for _ in range(rounds)
    ]


def total(arrays: list[Arrays], name: str) -> np.ndarray:
    return np.sum([update[name].astype(np.float64) for update in arrays], axis=0)


@pytest.mark.parametrize("codec", LOSSY, ids=lambda codec: codec.name)
def test_what_was_decoded_and_the_residual_make_the_sum_of_the_updates(codec: Codec) -> None:
    feedback, sent = ErrorFeedback(), updates(12)
    decoded = [decode(feedback.encode(update, codec)) for update in sent]
    for name in ("matrix", "scalar"):
        np.testing.assert_allclose(
            total(decoded, name) + feedback.residual[name], total(sent, name), rtol=0, atol=1e-4
        )
        assert feedback.residual[name].shape == np.shape(sent[0][name])


@pytest.mark.parametrize("codec", LOSSY, ids=lambda codec: codec.name)
def test_feedback_makes_the_sum_more_exact_than_coding_alone(codec: Codec) -> None:
    feedback, sent = ErrorFeedback(), updates(20)
    truth = total(sent, "matrix")
    fed = total([decode(feedback.encode(update, codec)) for update in sent], "matrix")
    alone = total([decode(encode(update, codec)) for update in sent], "matrix")
    assert np.linalg.norm(fed - truth) < 0.8 * np.linalg.norm(alone - truth)


def test_a_constant_update_too_small_to_be_sent_arrives_in_the_end() -> None:
    update = {"a": np.array([127.0, 0.2], np.float32)}
    feedback = ErrorFeedback()
    decoded = [decode(feedback.encode(update, CODECS["int8"])) for _ in range(10)]
    assert decoded[0]["a"][1] == 0
    assert total(decoded, "a")[1] == pytest.approx(2, abs=0.51)


def test_it_goes_on_from_a_residual_to_the_same_bytes() -> None:
    one, sent = ErrorFeedback(), updates(2)
    one.encode(sent[0], CODECS["int8"])
    two = ErrorFeedback({name: array.copy() for name, array in one.residual.items()})
    assert one.encode(sent[1], CODECS["int8"]) == two.encode(sent[1], CODECS["int8"])
    assert one.encode(sent[1], CODECS["int8"]) != encode(sent[1], CODECS["int8"])


def test_the_update_itself_is_left_as_it_was() -> None:
    (update,) = updates(1)
    before = update["matrix"].copy()
    ErrorFeedback({"matrix": np.ones_like(before)}).encode(update, CODECS["int8"])
    np.testing.assert_array_equal(update["matrix"], before)
