"""Quantisation of updates to integers that add up modulo 2^32, and back."""

from collections.abc import Iterator, Mapping
from math import prod
from statistics import median_low

import numpy as np

from mama.config.privacy import SecureConfig
from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import Shape
from mama.exchange.update import is_variate

CHUNK = 2**18  # values held in double precision at a time
WORD = 32
# Cap on a site's weight in medians; a heavier site would leave the others too few effective bits.
HEAVIEST = 4


def largest_bits(sites: int) -> int:
    """Return the most bits per value with which the sum of `sites` values stays below 2^32."""
    return WORD - (sites - 1).bit_length() if sites > 1 else WORD - 1


def step(limit: float, bits: int) -> float:
    """Return the quantisation step, which is also the largest rounding error of a value."""
    return 2 * limit / (2**bits - 1)


def scale_of(name: str, config: SecureConfig) -> float:
    """Return the factor of a tensor, chosen so that one limit fits updates and variates."""
    return config.limit / config.variate_limit if is_variate(name) else 1.0


def scales_of(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the factor of each site's update before masking: its weight over the largest weight.

    Weights above HEAVIEST medians are capped, so that no site can drown the others by its claim.
    """
    most = HEAVIEST * median_low(weights.values())
    counted = {site: min(weight, most) for site, weight in weights.items()}
    heaviest = max(counted.values())
    return {site: weight / heaviest for site, weight in counted.items()}


def quantise(update: Arrays, scale: float, limit: float, bits: int) -> np.ndarray:
    """Scale the values, clip them to [-limit, limit] and round stochastically, without bias.

    Returns:
        uint32 (n,) below 2^bits, the tensors in order of their names.
    """
    random = np.random.default_rng()
    result = np.empty(sum(array.size for array in update.values()), np.uint32)
    place = 0
    for _, array in sorted(update.items()):
        for part in _chunks(array):
            # Double precision holds 32 bits and a random fraction.
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
    """Return the mean of `sites` quantised updates from their sum.

    Args:
        total: the sum, uint32 (n,).
        shapes: shape of each tensor.
        sites: number of updates in the sum.
        scales: sum of the updates' scales.
        limit: the clipping limit of `quantise`.
        bits: the bits per value of `quantise`.

    Raises:
        ProtocolError: a value exceeds the largest possible sum of that many updates.
    """
    if total.size and int(total.max()) > sites * (2**bits - 1):
        raise ProtocolError("the sum exceeds the largest possible sum of the updates")
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
