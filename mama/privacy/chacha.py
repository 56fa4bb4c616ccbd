"""ChaCha20 on any device: a cryptographic keystream where the noise is needed.

RFC 8439, section 2.3: 20 rounds, a 256-bit key, a 32-bit block counter, here with a nonce of 0.
Written as operations on whole tensors, which run the same on CPU and GPU.
"""

import torch
from torch import Tensor

KEY_BYTES = 32
MOST_BLOCKS = 2**32  # of one key
_CONSTANTS = b"expand 32-byte k"


def keystream(key: bytes, first: int, blocks: int, device: torch.device) -> Tensor:
    """Return blocks `first` to `first + blocks - 1` of a key's stream, (16, blocks) int32.

    Word i of a block, little-endian in RFC 8439, is row i; int32 holds its 32 bits.

    Raises:
        ValueError: the counter would start again, so that words repeat.
    """
    if len(key) != KEY_BYTES or not 0 <= first <= first + blocks <= MOST_BLOCKS:
        raise ValueError(f"a key of {KEY_BYTES} bytes has {MOST_BLOCKS} blocks")
    fixed = torch.frombuffer(bytearray(_CONSTANTS + key), dtype=torch.int32)
    # A blocking copy would wait for the device's earlier work.
    fixed = fixed.to(device, non_blocking=True)[:, None]
    counters = torch.arange(first, first + blocks, device=device).to(torch.int32)
    a, b, c = fixed.repeat(1, blocks).view(3, 4, blocks)
    d = torch.zeros(4, blocks, dtype=torch.int32, device=device)
    d[0] = counters
    for _ in range(10):
        b, d = _quarter_rounds(a, b, c, d)
        # Rotated by their number, the rows have the diagonals as columns.
        b, c, d = b.roll(-1, 0), c.roll(-2, 0), d.roll(-3, 0)
        b, d = _quarter_rounds(a, b, c, d)
        b, c, d = b.roll(1, 0), c.roll(2, 0), d.roll(3, 0)
    words = torch.cat([a, b, c, d])
    words[:12] += fixed
    words[12] += counters
    return words


def _quarter_rounds(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the quarter round to all four columns: a and c in place, b and d returned."""
    for left, right in ((16, 12), (8, 7)):
        d = _rotated(d.bitwise_xor_(a.add_(b)), left)
        b = _rotated(b.bitwise_xor_(c.add_(d)), right)
    return b, d


def _rotated(words: Tensor, bits: int) -> Tensor:
    """Return 32-bit words rotated to the left; int32's own right shift would copy the sign."""
    low = (words >> (32 - bits)).bitwise_and_((1 << bits) - 1)
    # The shift to the left as a product modulo 2^32: one kernel with the sum.
    return low.add_(words, alpha=1 << bits)
