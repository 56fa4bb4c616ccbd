"""Error feedback: the encoding error of a lossy codec is added to the next update."""

from collections.abc import Mapping

import numpy as np

from mama.exchange.arrays import Arrays
from mama.exchange.codecs.base import Codec
from mama.exchange.codecs.block import pack
from mama.exchange.codecs.coding import flat


class ErrorFeedback:
    """Error feedback of a lossy codec across rounds.

    Seide et al., 1-bit SGD, 2014; Karimireddy et al., 2019 (arXiv 1901.09847), algorithm 1.
    update' = update + residual is encoded, and residual = update' - decoded. So the sum of the
    decoded updates differs from the sum of the updates only by the last residual, after any number
    of rounds.

    Args:
        residual: residual of the previous round; None means zeros.
    """

    def __init__(self, residual: Mapping[str, np.ndarray] | None = None):
        self.residual: Arrays = dict(residual or {})

    def encode(self, update: Mapping[str, np.ndarray], codec: Codec) -> bytes:
        """Return a block of the finite float32 arrays `update`; replaces the residual."""
        parts = {}
        for name, array in update.items():
            values = flat(array) + self.residual.pop(name, np.zeros((), np.float32)).reshape(-1)
            parts[name] = codec.encode(values)
            values -= codec.decode(parts[name], values.size)
            self.residual[name] = values.reshape(array.shape)
        return pack(codec.name, {name: array.shape for name, array in update.items()}, parts)
