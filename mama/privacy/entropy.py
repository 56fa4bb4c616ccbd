"""Cryptographic randomness for noise and sampling: repeatable noise could be subtracted."""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class Keystream:
    """Uniform 64-bit words: AES-256 in counter mode under a fresh key from the operating system.

    Not thread-safe. After a fork, parent and child would draw the same words, so create the stream
    in the process that uses it.
    """

    def __init__(self) -> None:
        # The key is used only once, so the counter may start at 0.
        self._cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> np.ndarray:
        """Return the next `count` words, uint64."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), "<u8")

    def uniforms(self, count: int) -> np.ndarray:
        """Return the next `count` float64 in [0, 1), multiples of 2^-53."""
        return (self.words(count) >> np.uint64(11)) * 2.0**-53
