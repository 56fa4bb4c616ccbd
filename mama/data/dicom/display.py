"""Display values of stored pixels: modality LUT, VOI LUT or window, and inversion.

A LUT or window that cannot be used is passed over for the next one in the standard's order (VOI
LUT, windows, none), and named, so that no image is lost for its presentation (PS3.3 C.11.2, PS3.4
N.2).
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut

WINDOW_IGNORED = "window-ignored"
LUT_IGNORED = "lut-ignored"
ROWS = 256  # that are counted at once

Curve = Callable[[np.ndarray], np.ndarray]


def display(
    stored: np.ndarray, dataset: pydicom.Dataset
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return stored pixels as levels, the display value of each, and codes of what was passed over.

    Every step is a function of the stored value alone, so it is applied to a table of values
    instead of to every pixel. Padding is background: it is neither scaled nor inverted.

    Args:
        stored: (height, width), integers of 8 or 16 bits with or without sign.
        dataset: the header.

    Returns:
        The stored values without sign, uint8 or uint16 (height, width), and float32 (256) or
        (65536) in [0, 1]; brighter is more X-ray absorption.
    """
    levels = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    levels = levels.view(np.uint8 if levels.itemsize == 1 else np.uint16)
    values = np.arange(int(stored.min()), int(stored.max()) + 1, dtype=np.int32)
    places = values % 2 ** (8 * levels.itemsize)
    padding = _padding(values, dataset)
    seen = _Seen(levels, places, padding)
    table, remarks = _table(_modality(values, dataset), dataset, seen)
    low, high = seen.extremes(table)
    table = np.clip((table - low) / max(high - low, float(np.finfo(np.float32).tiny)), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 1 - table
    table[padding] = 0
    shown = np.zeros(2 ** (8 * levels.itemsize), np.float32)
    shown[places] = table
    return levels, shown, tuple(sorted(remarks))


class _Seen:
    """The values that occur in an image and are no padding; they are counted only if it matters."""

    def __init__(self, levels: np.ndarray, places: np.ndarray, padding: np.ndarray):
        self.levels, self.places, self.padding = levels, places, padding

    @cached_property
    def mask(self) -> np.ndarray:
        counts = np.zeros(2 ** (8 * self.levels.itemsize), np.intp)
        # By rows, because as indices all at once are four times as large.
        for top in range(0, len(self.levels), ROWS):
            counts += np.bincount(self.levels[top : top + ROWS].ravel(), minlength=len(counts))
        return (counts[self.places] > 0) & ~self.padding

    def extremes(self, table: np.ndarray) -> tuple[float, float]:
        """Return the lowest and the highest entry of a table (n,) over the n values."""
        steps = np.diff(table)
        if not self.padding.any() and ((steps >= 0).all() or (steps <= 0).all()):
            shown = table[[0, -1]]  # the lowest and the highest value occur
        else:
            shown = table[self.mask]
        return (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 0.0)


def _modality(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    try:
        return np.asarray(apply_modality_lut(values, dataset))
    except Exception:  # malformed slope, intercept or LUT: the stored values stand for themselves
        return values


def _table(
    values: np.ndarray, dataset: pydicom.Dataset, seen: _Seen
) -> tuple[np.ndarray, set[str]]:
    """Apply the first usable LUT or window: one that keeps the image's values apart."""
    remarks: set[str] = set()
    lowest, highest = seen.extremes(values)
    for name, curve in _curves(dataset):
        try:
            table = curve(values).astype(np.float32)
            if np.isfinite(table).all():
                low, high = seen.extremes(table)
                if low < high or lowest == highest:
                    return table, remarks
        except (ValueError, TypeError, IndexError, AttributeError):
            pass
        remarks.add(name)
    return values.astype(np.float32), remarks


def _curves(dataset: pydicom.Dataset) -> Iterator[tuple[str, Curve]]:
    for item in dataset.get("VOILUTSequence") or []:
        yield LUT_IGNORED, partial(_lut, item=item)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    centers, widths = (_texts(dataset, name) for name in ("WindowCenter", "WindowWidth"))
    if centers and widths:
        for center, width in zip(centers, widths, strict=False):
            yield WINDOW_IGNORED, partial(_window, center=center, width=width, function=function)


def _texts(dataset: pydicom.Dataset, name: str) -> list[str]:
    try:
        value = dataset.get(name)
    except Exception:  # a value such as "AUTO", which is no number
        return ["unreadable"]
    if value is None or value == "":
        return []
    several = isinstance(value, pydicom.multival.MultiValue | list | tuple)
    return [str(one) for one in (value if several else [value])]


def _window(values: np.ndarray, center: str, width: str, function: str) -> np.ndarray:
    """Return values by the window functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, in [0, 1]."""
    c, w = float(center), float(width)
    if not w > 0 or (function == "LINEAR" and w < 1):
        raise ValueError("a window needs a width")
    x = values.astype(np.float64)
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - c) / w, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((x - c) / w + 0.5, 0, 1)
    return np.clip((x - (c - 0.5)) / max(w - 1, np.finfo(np.float64).tiny) + 0.5, 0, 1)


def _lut(values: np.ndarray, item: pydicom.Dataset) -> np.ndarray:
    """Return values by a LUT of 8 to 16 bits (PS3.3 C.11.2.1.1)."""
    entries, first, bits = (int(part) for part in item.LUTDescriptor)
    entries = entries or 2**16
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # the descriptor's sign follows the pixels', which pydicom may not know
    data = _entries(item["LUTData"].value, entries, bits)
    return data[np.clip(values.astype(np.int64) - first, 0, entries - 1)]


def _entries(data: object, entries: int, bits: int) -> np.ndarray:
    if not 8 <= bits <= 16:
        raise ValueError("a LUT has 8 to 16 bits")
    if isinstance(data, bytes):
        # Entries of 8 bits may be packed, or stored in words all the same.
        packed = bits == 8 and len(data) < 2 * entries
        found = np.frombuffer(data, np.uint8 if packed else "<u2")
    else:
        found = np.asarray(data, np.int64) & 0xFFFF
        if bits == 8 and len(found) < entries <= 2 * len(found):
            found = np.stack([found & 0xFF, found >> 8], 1).ravel()
    if len(found) < entries:
        raise ValueError("the LUT is shorter than it states")
    return found[:entries].astype(np.int64)


def _padding(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Return a bool mask of the values that mark padding (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(values.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((value, limit if isinstance(limit, int) else value))
    return (values >= first) & (values <= last)
