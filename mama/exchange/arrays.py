"""Named float32 arrays, as they travel between sites and server: what is checked and computed without torch."""

from collections.abc import Mapping

import numpy as np

from mama.errors import ProtocolError

Arrays = dict[str, np.ndarray]


def difference(after: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> Arrays:
    """The update: after minus before."""
    return {name: after[name] - before[name] for name in after}


def check_shapes(
    found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse anything but exactly these names and shapes.

    Raises:
        ProtocolError: names the first of our tensors that differs, never a name from the other side.
    """
    missing, extra = sorted(set(shapes) - set(found)), sorted(set(found) - set(shapes))
    if missing:
        raise ProtocolError("tensor is missing", where=missing[0])
    if extra:
        raise ProtocolError(f"{len(extra)} unexpected tensors")
    for name, shape in shapes.items():
        if found[name] != shape:
            raise ProtocolError("tensor has another shape", where=name)


def check_arrays(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse anything but finite float32 arrays of exactly these names and shapes.

    Raises:
        ProtocolError: names the first of our tensors that differs, never a name from the other side.
    """
    check_shapes({name: array.shape for name, array in arrays.items()}, shapes)
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ProtocolError("tensor is not float32", where=name)
        if not np.isfinite(array).all():
            raise ProtocolError("tensor is not finite", where=name)
