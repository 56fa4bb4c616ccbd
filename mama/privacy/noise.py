"""Gaussian noise whose support and last bits tell nothing of what it was added to.

float32 generators end near 5.8 sigma and give only some values below that, so a sum outside of their reach betrays
a patient for certain. Here a pair of normals is made of 192 random bits by Box and Muller's method in float64: the
radius is at most sqrt(2 ln 2^129) = 13.4 sigma, and an ideal one is longer with probability 2^-129. The sum is taken
in float64 and rounded to a fixed grid, for its last bits as a float would tell of what was summed (Mironov 2012).
Rounding an ideal sum is post-processing; docs/privacy.md bounds the gap that is left.
"""

import math

import torch
from torch import Tensor

from mama.privacy.entropy import Keystream

PAIRS = 2**15  # drawn at once: 3 MiB of memory, whatever the size of a tensor
GRID = 2.0**-9  # of sigma, at most; at least half of it


def add_gaussian(total: Tensor, sigma: float) -> None:
    """Add noise of standard deviation `sigma` to a float32 tensor in place, and round to multiples of `grid(sigma)`.

    The noise is drawn on the CPU, from a key of its own in each call. Where sigma is 0 nothing changes.
    """
    if sigma == 0:
        return
    stream, step = Keystream(), grid(sigma)
    flat = total.detach().view(-1)
    for first in range(0, len(flat), 2 * PAIRS):
        part = flat[first : first + 2 * PAIRS]
        noised = standard_normals(stream, len(part)).mul_(sigma).add_(part.cpu())
        part.copy_(noised.div_(step).round_().mul_(step))


def standard_normals(stream: Keystream, count: int) -> Tensor:
    """`count` independent standard normals, float64."""
    pairs = (count + 1) // 2
    high, low, angle = stream.words(3 * pairs).reshape(3, pairs)
    # 128 bits: 2^-129 at least, with as many values there as float64 has.
    uniform = torch.from_numpy((high + (low + 0.5) * 2.0**-64) * 2.0**-64)
    radius = uniform.log_().mul_(-2).sqrt_()
    turn = torch.from_numpy(angle * (math.tau * 2.0**-64))
    return torch.cat([turn.cos().mul_(radius), turn.sin_().mul_(radius)])[:count]


def grid(sigma: float) -> float:
    """The spacing of released sums: a power of two, so that float32 holds its multiples exactly."""
    return 2.0 ** math.floor(math.log2(sigma * GRID))
