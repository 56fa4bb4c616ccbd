"""Updates as whole numbers that add up modulo 2^32, and back."""

from collections.abc import Iterator, Mapping
from math import prod
from statistics import median_low

import numpy as np

from mama.config_privacy import SecureConfig
from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.block import Shape
from mama.exchange.method import VARIATE

CHUNK = 2**18  # values; what is held in double precision at a time
WORD = 32
# The most that one site counts, in medians of all: a heavier one would leave the others fewer bits than were agreed.
HEAVIEST = 4


def largest_bits(sites: int) -> int:
    """So many bits a value that `sites` of them add up without passing 2^32."""
    return WORD - (sites - 1).bit_length() if sites > 1 else WORD - 1


def step(limit: float, bits: int) -> float:
    """What two neighbouring whole numbers are apart; the most by which rounding moves one site's value."""
    return 2 * limit / (2**bits - 1)


def scale_of(name: str, config: SecureConfig) -> float:
    """What a tensor of an update is multiplied by, so that one limit fits all."""
    return config.limit / config.variate_limit if name.startswith(VARIATE) else 1.0


def scales_of(weights: Mapping[str, float]) -> dict[str, float]:
    """What each site's update is multiplied by before it is masked: its weight over the heaviest, at most 1.

    A weight above HEAVIEST medians counts as that many, so that no site can drown the others by what it claims.
    """
    most = HEAVIEST * median_low(weights.values())
    counted = {site: min(weight, most) for site, weight in weights.items()}
    heaviest = max(counted.values())
    return {site: weight / heaviest for site, weight in counted.items()}


def quantise(update: Arrays, scale: float, limit: float, bits: int) -> np.ndarray:
    """Each value times `scale`, cut to [-limit, limit] and rounded up or down at random, so that errors average out.

    Returns:
        uint32 (n,) below 2^bits, the tensors in the order of their names.
    """
    random = np.random.default_rng()
    result = np.empty(sum(array.size for array in update.values()), np.uint32)
    place = 0
    for _, array in sorted(update.items()):
        for part in _chunks(array):
            # In double precision, which 32 bits and a random share of one do not exhaust.
            whole = (np.clip(part * scale, -limit, limit) + limit) / step(limit, bits)
            whole = np.minimum(np.floor(whole + random.random(len(part))), 2**bits - 1)
            result[place : place + len(part)] = whole
            place += len(part)
    return result


def mean(
    total: np.ndarray,
    shapes: Mapping[str, Shape],
    sites: int,
    scales: float,
    limit: float,
    bits: int,
) -> Arrays:
    """The mean of `sites` quantised updates whose scales add up to `scales`, from their sum.

    Args:
        total: uint32 (n,).

    Raises:
        ProtocolError: a value is beyond what so many sites can add up to, whatever their updates.
    """
    if total.size and int(total.max()) > sites * (2**bits - 1):
        raise ProtocolError("the sum is beyond what so many updates can add up to")
    values = np.empty(total.size, np.float32)
    for first in range(0, total.size, CHUNK):
        part = slice(first, first + CHUNK)
        whole = total[part].astype(np.float64)
        values[part] = (whole * step(limit, bits) - sites * limit) / scales
    arrays, place = {}, 0
    for name, shape in sorted(shapes.items()):
        size = prod(shape)
        arrays[name] = values[place : place + size].reshape(shape)
        place += size
    return arrays


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.reshape(-1)
    for first in range(0, flat.size, CHUNK):
        yield flat[first : first + CHUNK].astype(np.float64)
