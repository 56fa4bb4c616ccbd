"""Gaussian noise whose support and low-order bits reveal nothing about the noised sum.

float32 generators end near 5.8 sigma and miss many values below, so a sum outside their support
reveals a patient with certainty. Here each pair of normals is made of 192 random bits by the
Box-Muller method in float64: the radius is at most sqrt(2 ln 2^129) = 13.4 sigma, and an ideal one
exceeds that with probability 2^-129. The sum is computed in float64 and rounded to a fixed grid,
because the low-order bits of a float would reveal the summands (Mironov 2012). Rounding an ideal
sum is post-processing; docs/privacy.md bounds the remaining gap.
"""

import math
import os

import torch
from torch import Tensor

from mama.privacy.chacha import KEY_BYTES, keystream
from mama.privacy.entropy import Keystream

PAIRS = 2**15  # drawn at a time on a CPU: 3 MiB of memory for any tensor size
BLOCKS = 2**18  # drawn at a time on a GPU: about 80 MiB
WORDS = 6  # 32-bit words of a pair
GRID = 2.0**-9  # upper bound of the grid spacing in units of sigma; the lower bound is half of it


def add_gaussian(total: Tensor, sigma: float) -> None:
    """Add noise of standard deviation `sigma` to a float32 tensor in place; round to `grid(sigma)`.

    The noise is drawn on the tensor's device under a new key of the operating system in each call:
    by AES-256 on a CPU, which has instructions for it, by ChaCha20 elsewhere. If sigma is 0, the
    tensor is unchanged.

    Raises:
        ValueError: the tensor has more values than a key of ChaCha20 has noise for, 2.3e10.
    """
    if sigma == 0:
        return
    step, flat = grid(sigma), total.detach().view(-1)
    draw = DeviceNormals(total.device) if total.device.type != "cpu" else _Normals()
    for first in range(0, len(flat), draw.most):
        part = flat[first : first + draw.most]
        noised = draw(len(part)).mul_(sigma).add_(part)
        part.copy_(noised.div_(step).round_().mul_(step))


class _Normals:
    """Standard normals on the CPU."""

    most = 2 * PAIRS

    def __init__(self) -> None:
        self._stream = Keystream()

    def __call__(self, count: int) -> Tensor:
        return standard_normals(self._stream, count)


class DeviceNormals:
    """Source of standard normals made on a device, under a key of its own."""

    most = 2 * (16 * BLOCKS // WORDS)

    def __init__(self, device: torch.device):
        self._key, self._device, self._next = os.urandom(KEY_BYTES), device, 0

    def __call__(self, count: int) -> Tensor:
        """Return the next `count` <= `most`, float64."""
        pairs = (count + 1) // 2
        blocks = -(-pairs * WORDS // 16)
        words = keystream(self._key, self._next, blocks, self._device)
        self._next += blocks
        return normals_of(unsigned(words.flatten()[: pairs * WORDS]))[:count]


def standard_normals(stream: Keystream, count: int) -> Tensor:
    """Return `count` independent standard normals, float64, on the CPU."""
    words = stream.words(3 * ((count + 1) // 2)).astype("float64")
    return normals_of(torch.from_numpy(words))[:count]


def normals_of(words: Tensor) -> Tensor:
    """Return two standard normals of every three 64-bit words (3 * pairs,), given as float64."""
    high, low, angle = words.view(3, -1)
    # 128 bits: at least 2^-129, with float64's full resolution near 0.
    uniform = ((low + 0.5) * 2.0**-64).add_(high).mul_(2.0**-64)
    radius = uniform.log_().mul_(-2).sqrt_()
    phase = angle * (math.tau * 2.0**-64)
    return torch.cat([phase.cos().mul_(radius), phase.sin_().mul_(radius)])


def unsigned(words: Tensor) -> Tensor:
    """Return the 64-bit numbers of int32 words (2 * n,) as float64, rounded once as from integers.

    The first half of the words are the numbers' high parts.
    """
    # A negative word's remainder is the same bits read as unsigned.
    high, low = words.double().remainder_(2.0**32).view(2, -1)
    return high.mul_(2.0**32).add_(low)


def grid(sigma: float) -> float:
    """Return the spacing of released sums: a power of two, with multiples exact in float32."""
    return 2.0 ** math.floor(math.log2(sigma * GRID))
