"""One seed for a run, and from it an independent one for every use, by name instead of by order of drawing."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on all of `names`; equal on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for one use."""
    return np.random.default_rng(derive(seed, *names))


def torch_generator(seed: int, *names: str | int) -> "torch.Generator":
    """A CPU torch generator for one use."""
    import torch  # the coordinator's service draws without it

    return torch.Generator().manual_seed(derive(seed, *names))
