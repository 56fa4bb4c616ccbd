"""Randomness that nobody outside this process can repeat: noise that could be drawn again could be subtracted."""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class Keystream:
    """Uniform 64-bit words: AES-256 in counter mode, under a key that the operating system draws for this stream alone.

    A stream is for one thread. After a fork parent and child would draw the same from it: make it where it is used.
    """

    def __init__(self) -> None:
        # The key is used once, so the counter may start at 0.
        self._cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> np.ndarray:
        """The next `count` words, uint64."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), "<u8")

    def chances(self, count: int) -> np.ndarray:
        """The next `count` float64 of [0, 1), multiples of 2^-53."""
        return (self.words(count) >> np.uint64(11)) * 2.0**-53
