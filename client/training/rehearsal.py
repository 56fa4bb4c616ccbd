"""Round without training, which measures transfer and memory with random numbers only."""

import resource
import time
from collections.abc import Mapping

import numpy as np

from mama.config.federation import ExchangeConfig
from mama.exchange.codecs.block import Shape, unpack
from mama.exchange.codecs.coding import encode, uplink_codec
from mama.exchange.protocol import Rehearsal


def rehearse(payload: bytes, shapes: Mapping[str, Shape], config: ExchangeConfig) -> bytes:
    """Verify `payload` and return a block of random numbers of the size of an update.

    Raises:
        ProtocolError: the payload is damaged.
    """
    unpack(payload)
    random = np.random.default_rng()
    update = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return encode(update, uplink_codec(config))


def cost_since(arrived: float) -> Rehearsal:
    """Return the seconds since `arrived` (`time.monotonic`) and this process's peak memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    return Rehearsal(seconds=time.monotonic() - arrived, peak_mib=peak // 1024)
