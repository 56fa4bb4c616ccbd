"""Masks: they cancel exactly, look like noise, and depend on all 256 bits of their key."""

import numpy as np
import pytest
from scipy import stats

from mama.exchange.secagg.masks import CHUNK, add_mask


def stream(key: bytes, size: int) -> np.ndarray:
    vector = np.zeros(size, np.uint32)
    add_mask(vector, key, 1)
    return vector


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK, CHUNK + 3])
def test_masks_cancel(size: int) -> None:
    before = np.random.default_rng(0).integers(0, 2**32, size, np.uint32)
    vector = before.copy()
    add_mask(vector, bytes(range(32)), 1)
    assert size < 2 or (vector != before).any()
    add_mask(vector, bytes(range(32)), -1)
    assert (vector == before).all()


def test_a_stream_does_not_depend_on_the_length_asked_for() -> None:
    key = b"k" * 32
    assert (stream(key, CHUNK + 7)[:100] == stream(key, 100)).all()


def test_every_bit_of_the_key_counts() -> None:
    streams = {stream(bytes(32), 4).tobytes()}
    for bit in range(256):
        key = bytearray(32)
        key[bit // 8] ^= 1 << bit % 8
        streams.add(stream(bytes(key), 4).tobytes())
    assert len(streams) == 257


def test_a_known_stream() -> None:
    """AES-256 of the zero block under the zero key (FIPS 197, checked elsewhere)."""
    assert stream(bytes(32), 4).astype("<u4").tobytes().hex() == "dc95c078a2408989ad48a21492842087"


def test_streams_are_uniform() -> None:
    drawn = stream(b"q" * 32, 500_000)
    for shift in (0, 8, 16, 24):
        counts = np.bincount((drawn >> shift) & 255, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6
