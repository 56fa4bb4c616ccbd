"""A round without training: what a site sends and how much memory it takes, but random and nothing of its data."""

import resource
import time
from collections.abc import Mapping

import numpy as np

from mama.config_federation import ExchangeConfig
from mama.exchange.block import Shape, unpack
from mama.exchange.coding import encode, uplink_codec
from mama.exchange.protocol import Rehearsal


def rehearse(payload: bytes, shapes: Mapping[str, Shape], config: ExchangeConfig) -> bytes:
    """Check that `payload` came whole and return a block of random numbers, as large as an update of these shapes.

    Raises:
        ProtocolError: the payload is damaged.
    """
    unpack(payload)
    random = np.random.default_rng()
    update = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return encode(update, uplink_codec(config))


def cost_since(arrived: float) -> Rehearsal:
    """Seconds since a time of `time.monotonic`, and the most memory that this process has had (Linux: KiB)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Rehearsal(seconds=time.monotonic() - arrived, peak_mib=peak // 1024)
