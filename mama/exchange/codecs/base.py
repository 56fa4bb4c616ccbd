"""What a codec is, and the check that parts from the other side are what an encoder would have made."""

from typing import Protocol

import numpy as np

from mama.exchange.block import Parts


class DamagedError(ValueError):
    """Parts that no encoder makes; the text is fixed and repeats none of them."""


class Codec(Protocol):
    """Turns finite float32 values (n,) into named parts (1-D arrays) and back.

    A `lossy` codec loses something, which a site keeps and adds to its next update (mama/exchange/feedback.py).
    """

    @property
    def name(self) -> str:
        """The name in a block and in `federation.exchange.up`."""

    @property
    def lossy(self) -> bool:
        """Whether decoding gives other values than were encoded."""

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """The parts of finite float32 values (n,)."""

    def decode(self, parts: Parts, size: int) -> np.ndarray:
        """Finite float32 values (size,). Memory is taken only once the parts are known to fit `size`.

        Raises:
            DamagedError: the parts are not of this codec, not of `size` values, or not finite.
        """


def take(parts: Parts, **expected: tuple[type, int]) -> list[np.ndarray]:
    """The parts in the order of `expected`, which gives each one's type and length.

    Raises:
        DamagedError: a part is missing, too many, or of another type or length.
    """
    if parts.keys() != expected.keys():
        raise DamagedError("tensor has other parts than its codec makes")
    for name, (kind, size) in expected.items():
        if parts[name].dtype != kind or parts[name].shape != (size,):
            raise DamagedError("tensor has a part of another type or length")
    return [parts[name] for name in expected]
