"""Masks: a long stream of random words from a short key, added modulo 2^32.

The stream is AES-256 in counter mode. (Flower's own generator reduces its key to 32 bits, few
enough to try them all.)
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CHUNK = 2**18  # words


def add_mask(vector: np.ndarray, key: bytes, sign: int) -> None:
    """Add (1) or subtract (-1) a key's stream in place.

    Args:
        vector: uint32 (n,).
        key: 32 bytes, used for nothing else.
        sign: 1 or -1.
    """
    # A key is used for a single stream, so the counter may start at 0.
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(4 * CHUNK)
    for first in range(0, len(vector), CHUNK):
        part = vector[first : first + CHUNK]
        words = np.frombuffer(stream.update(zeros[: 4 * len(part)]), "<u4")
        if sign > 0:
            np.add(part, words, out=part)
        else:
            np.subtract(part, words, out=part)
