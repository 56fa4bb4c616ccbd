"""Updates kept on disk, for rules that must see all of them at once."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import numpy as np
from torch import Tensor

from mama.errors import QuorumError
from mama.exchange.arrays import Arrays
from mama.system.files import private_folder
from server.aggregation.base import Shapes, as_tensors

# Values of all updates together that are in memory at a time: 16 MiB.
BLOCK = 2**22


class Spooled(ABC):
    """An aggregation rule that reads all updates side by side, a block of coordinates at a time.

    Disk: one float32 file an update, its tensors end to end. Memory: the result and a few blocks of
    `block` values, whatever the numbers of sites and parameters. Updates are ordered by site, not
    by arrival, so the result is the same to the bit in whichever order they came.

    Args:
        folder: this rule's own; what an earlier process left in it is removed.
        minimum: updates below which there is no result.
    """

    def __init__(self, shapes: Shapes, folder: Path, minimum: int, block: int = BLOCK):
        self._shapes, self._folder, self._minimum, self._block = shapes, folder, minimum, block
        self._size = sum(prod(shape) for shape in shapes.values())
        self._kept: list[tuple[str, int]] = []
        shutil.rmtree(folder, ignore_errors=True)
        private_folder(folder)

    def fold(self, site: str, update: Arrays, weight: float) -> None:
        """Write an update to disk; its weight is ignored, since a bad site could claim any.

        Raises:
            OSError: the disk is full; the update does not count.
        """
        number = len(self._kept)
        with open(self._file(number), "wb") as handle:
            for name, shape in self._shapes.items():
                if update[name].shape != shape:
                    raise ValueError(f"{name} is {update[name].shape}, not {shape}")
                handle.write(np.ascontiguousarray(update[name], np.float32).data)
        self._kept.append((site, number))

    def result(self) -> dict[str, Tensor]:
        """Return the combined update.

        Raises:
            QuorumError: too few updates.
        """
        if len(self._kept) < self._minimum:
            raise QuorumError(
                f"{len(self._kept)} updates, but {type(self).__name__} needs at least "
                f"{self._minimum}",
                where="strategy.aggregator",
                fix="Wait for more sites, or start a run with another aggregator",
            )
        self._kept.sort()
        return self.combine()

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @abstractmethod
    def combine(self) -> dict[str, Tensor]:
        """Return the result of all blocks."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all N updates block by block, (N, c) float32, writable, in coordinate order."""
        width = max(1, self._block // len(self._kept))
        for start in range(0, self._size, width):
            count = min(width, self._size - start)
            block = np.empty((len(self._kept), count), np.float32)
            for row, (_, number) in zip(block, self._kept, strict=True):
                row[:] = np.fromfile(self._file(number), np.float32, count, offset=4 * start)
            yield block

    def over_blocks(self, rule: Callable[[np.ndarray], np.ndarray]) -> dict[str, Tensor]:
        """Apply a `rule` from (N, c) to (c,) to each block, and join the results."""
        flat = np.empty(self._size, np.float32)
        start = 0
        for block in self.blocks():
            flat[start : start + block.shape[1]] = rule(block)
            start += block.shape[1]
        return as_tensors(flat, self._shapes)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.f32"
