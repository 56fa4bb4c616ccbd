"""Only the largest values of a tensor, as int8; the others stay at the site until they have grown.

Top-k with error feedback: Lin et al., Deep Gradient Compression, 2018 (arXiv 1712.01887), section 3, without its
momentum correction; Stich et al., Sparsified SGD with Memory, 2018 (arXiv 1809.07599).

A place is written as its distance to the one before, less 1, in 16 bits: places rise by construction, so that none
can be named twice. A distance too wide for 16 bits is bridged by places of value 0.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mama.exchange.block import Parts
from mama.exchange.codecs.base import DamagedError, take
from mama.exchange.codecs.int8 import dequantise, quantise, rows_of

WIDEST = 2**16


@dataclass(frozen=True)
class TopK:
    """The share `keep` of each tensor's values that is largest in magnitude, at least one; 3 bytes each."""

    keep: float = 0.01
    name: ClassVar[str] = "topk"
    lossy: ClassVar[bool] = True

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """See `Codec`."""
        places = largest(values, math.ceil(self.keep * values.size))
        steps = np.diff(places, prepend=-1)
        bridges = (steps - 1) // WIDEST
        written = np.cumsum(bridges + 1) - 1  # where each value comes to stand behind its bridges
        total = written[-1] + 1 if places.size else 0
        gaps = np.full(total, WIDEST - 1, np.uint16)
        gaps[written] = steps - bridges * WIDEST - 1
        kept = np.zeros(total, np.float32)
        kept[written] = values[places]
        levels, scales = quantise(kept)
        return {"gaps": gaps, "levels": levels, "scales": scales}

    def decode(self, parts: Parts, size: int) -> np.ndarray:
        """See `Codec`; `keep` plays no part."""
        kept = parts["gaps"].size if "gaps" in parts else 0
        if kept > size:
            raise DamagedError("tensor has more values than its size")
        gaps, levels, scales = take(
            parts,
            gaps=(np.uint16, kept),
            levels=(np.int8, kept),
            scales=(np.float32, rows_of(kept)),
        )
        places = np.cumsum(gaps, dtype=np.int64) + np.arange(kept)
        if kept and places[-1] >= size:
            raise DamagedError("tensor has a value beyond its end")
        values = np.zeros(size, np.float32)
        values[places] = dequantise(levels, scales)
        return values


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """The rising places int64 (count,) of the values largest in magnitude; of equal ones the first."""
    if count == values.size:
        return np.arange(count)
    magnitudes = np.abs(values)
    limit = np.partition(magnitudes, -count)[-count]
    above = np.flatnonzero(magnitudes > limit)
    equal = np.flatnonzero(magnitudes == limit)[: count - above.size]
    return np.sort(np.concatenate([above, equal]))
