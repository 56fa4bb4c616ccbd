"""Codec interface, and the check that received parts are what an encoder would have made."""

from typing import Protocol

import numpy as np

from mama.exchange.codecs.block import Parts


class DamagedError(ValueError):
    """Parts that no encoder produces; the message is fixed and repeats nothing from them."""


class Codec(Protocol):
    """Conversion of finite float32 values (n,) to named parts (1-D arrays) and back.

    The error of a `lossy` codec is kept by the site and added to its next update
    (mama/exchange/codecs/feedback.py).
    """

    @property
    def name(self) -> str:
        """Name in a block and in `exchange.up`."""

    @property
    def lossy(self) -> bool:
        """True if decoded values differ from the encoded ones."""

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the parts of finite float32 values (n,)."""

    def decode(self, parts: Parts, size: int) -> np.ndarray:
        """Return finite float32 values (size,); allocates only after checking that parts fit.

        Raises:
            DamagedError: the parts are not of this codec, not of `size` values, or not finite.
        """


def take(parts: Parts, **expected: tuple[type, int]) -> list[np.ndarray]:
    """Return the parts in the order of `expected`, which gives the type and length of each.

    Raises:
        DamagedError: a part is missing, unexpected, or of another type or length.
    """
    if parts.keys() != expected.keys():
        raise DamagedError("tensor has other parts than its codec makes")
    for name, (kind, size) in expected.items():
        if parts[name].dtype != kind or parts[name].shape != (size,):
            raise DamagedError("tensor has a part of another type or length")
    return [parts[name] for name in expected]
