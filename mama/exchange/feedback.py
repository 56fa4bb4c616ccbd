"""Error feedback: what a lossy codec lost of an update is added to the next one."""

from collections.abc import Mapping

import numpy as np

from mama.exchange.arrays import Arrays
from mama.exchange.block import pack
from mama.exchange.codecs.base import Codec
from mama.exchange.coding import flat


class ErrorFeedback:
    """Seide et al., 1-bit SGD, 2014; Karimireddy et al., 2019 (arXiv 1901.09847), algorithm 1.

    update' = update + residual is encoded, and residual = update' - decoded. So the sum of what was decoded differs
    from the sum of the updates by the last residual alone, however many rounds there were.

    Args:
        residual: of the round before; of zeros where there is none.
    """

    def __init__(self, residual: Mapping[str, np.ndarray] | None = None):
        self.residual: Arrays = dict(residual or {})

    def encode(self, update: Mapping[str, np.ndarray], codec: Codec) -> bytes:
        """A block of the finite float32 arrays `update`; replaces the residual."""
        parts = {}
        for name, array in update.items():
            values = flat(array) + self.residual.pop(name, np.zeros((), np.float32)).reshape(-1)
            parts[name] = codec.encode(values)
            values -= codec.decode(parts[name], values.size)
            self.residual[name] = values.reshape(array.shape)
        return pack(codec.name, {name: array.shape for name, array in update.items()}, parts)
