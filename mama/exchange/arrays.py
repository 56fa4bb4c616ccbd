"""Named float32 arrays as exchanged by sites and server: checks and arithmetic without torch."""

from collections.abc import Mapping

import numpy as np

from mama.errors import ProtocolError

Arrays = dict[str, np.ndarray]


def difference(after: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> Arrays:
    """Return the update: after minus before."""
    return {name: after[name] - before[name] for name in after}


def check_shapes(
    found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that names and shapes are exactly these.

    Raises:
        ProtocolError: names the first expected tensor that differs, never a received name.
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
    """Check that the arrays are finite float32 of exactly these names and shapes.

    Raises:
        ProtocolError: names the first expected tensor that differs, never a received name.
    """
    check_shapes({name: array.shape for name, array in arrays.items()}, shapes)
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ProtocolError("tensor is not float32", where=name)
        if not np.isfinite(array).all():
            raise ProtocolError("tensor is not finite", where=name)
