"""Top-k codec: only the largest values of a tensor, as int8; the others accumulate at the site.

Top-k with error feedback: Lin et al., Deep Gradient Compression, 2018 (arXiv 1712.01887),
section 3, without its momentum correction; Stich et al., Sparsified SGD with Memory, 2018 (arXiv
1809.07599).

An index is encoded as its distance from the previous one, less 1, in 16 bits: indices rise by
construction, so none can occur twice. Distances that exceed 16 bits are bridged by values of 0.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mama.exchange.codecs.base import DamagedError, take
from mama.exchange.codecs.block import Parts
from mama.exchange.codecs.int8 import dequantise, quantise, rows_of

WIDEST = 2**16


@dataclass(frozen=True)
class TopK:
    """Codec of the share `keep` of a tensor's largest magnitudes, at least one; 3 bytes each."""

    keep: float = 0.01
    name: ClassVar[str] = "topk"
    lossy: ClassVar[bool] = True

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """See `Codec`."""
        places = largest(values, math.ceil(self.keep * values.size))
        steps = np.diff(places, prepend=-1)
        bridges = (steps - 1) // WIDEST
        written = np.cumsum(bridges + 1) - 1  # position of each value after its bridges
        total = written[-1] + 1 if places.size else 0
        gaps = np.full(total, WIDEST - 1, np.uint16)
        gaps[written] = steps - bridges * WIDEST - 1
        kept = np.zeros(total, np.float32)
        kept[written] = values[places]
        levels, scales = quantise(kept)
        return {"gaps": gaps, "levels": levels, "scales": scales}

    def decode(self, parts: Parts, size: int) -> np.ndarray:
        """See `Codec`; `keep` is not used."""
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
    """Return rising indices int64 (count,) of the largest magnitudes, the first among equals."""
    if count == values.size:
        return np.arange(count)
    magnitudes = np.abs(values)
    limit = np.partition(magnitudes, -count)[-count]
    above = np.flatnonzero(magnitudes > limit)
    equal = np.flatnonzero(magnitudes == limit)[: count - above.size]
    return np.sort(np.concatenate([above, equal]))
