"""ChaCha20 against RFC 8439 and OpenSSL, on every device of this machine."""

import struct

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.privacy.chacha import MOST_BLOCKS, keystream

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def as_bytes(key: bytes, first: int, blocks: int, device: str = "cpu") -> bytes:
    words = keystream(key, first, blocks, torch.device(device)).cpu().numpy()
    return words.T.astype("<i4").tobytes()


def openssl(key: bytes, first: int, blocks: int) -> bytes:
    nonce = struct.pack("<I", first) + bytes(12)
    return Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(64 * blocks))


VECTORS = [  # RFC 8439, appendix A.1: those whose nonce is 0 (key, block, stream)
    (
        bytes(32),
        0,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        bytes(32),
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        bytes(31) + b"\x01",
        1,
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        b"\x00\xff" + bytes(30),
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("key", "block", "stream"), VECTORS)
def test_the_rfcs_vectors(key: bytes, block: int, stream: str, device: str) -> None:
    assert as_bytes(key, block, 1, device).hex() == stream


@pytest.mark.parametrize("device", DEVICES)
def test_it_is_openssls(device: str) -> None:
    key = bytes(range(200, 232))
    for first in (5, 2**31 - 500, MOST_BLOCKS - 1000):  # the second passes int32's largest number
        assert as_bytes(key, first, 1000, device) == openssl(key, first, 1000)


@given(st.binary(min_size=32, max_size=32), st.integers(0, MOST_BLOCKS - 9), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_it_is_openssls_for_any_key_and_place(key: bytes, first: int, blocks: int) -> None:
    assert as_bytes(key, first, blocks) == openssl(key, first, blocks)


def test_a_counter_that_would_start_again_is_refused() -> None:
    assert keystream(bytes(32), MOST_BLOCKS - 1, 1, torch.device("cpu")).shape == (16, 1)
    for first, blocks in ((MOST_BLOCKS, 1), (MOST_BLOCKS - 1, 2), (-1, 1)):
        with pytest.raises(ValueError, match="blocks"):
            keystream(bytes(32), first, blocks, torch.device("cpu"))
    with pytest.raises(ValueError, match="32 bytes"):
        keystream(bytes(31), 0, 1, torch.device("cpu"))


def test_its_bits_are_even() -> None:
    words = keystream(bytes(32), 0, 4096, torch.device("cpu")).numpy().view(np.uint8)
    share = np.unpackbits(words).mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(words.size * 8)
