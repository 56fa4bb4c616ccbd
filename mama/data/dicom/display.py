"""Display values of stored pixels: modality LUT, VOI LUT or window, and inversion.

A LUT or window that cannot be used, or that shows all tissue as black or white, is passed over for
the next one in the standard's order (VOI LUT, windows, none), and named, so that no image is lost
for its presentation (PS3.3 C.11.2, PS3.4 N.2).
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRBigEndian

WINDOW_IGNORED = "window-ignored"
LUT_IGNORED = "lut-ignored"
PADDING_IGNORED = "padding-ignored"
ROWS = 256  # that are counted at once
SAMPLED = 64  # rows that are looked at to judge a curve
APART = 0.03  # share of the lit pixels that a usable curve shows neither black nor white
NEAR = 1 / 256  # of the range; what is this close to its ends is black or white
PICTURE = 0.01  # share of the pixels; padding that leaves less is no padding

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
    seen = _Seen(levels, places, _padding(values, dataset))
    remarks = set()
    if seen.padding.any() and seen.sample[~seen.padding].sum() < PICTURE * seen.sample.sum():
        seen.padding[:] = False
        remarks.add(PADDING_IGNORED)
    padding = seen.padding
    modality = _first_usable(values, _modality_curves(dataset), seen, remarks)
    table = _first_usable(modality, _voi_curves(dataset), seen, remarks).astype(np.float32)
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

    @cached_property
    def sample(self) -> np.ndarray:
        """Number of pixels of each value, padding included, in some of the rows."""
        rows = self.levels[:: max(1, len(self.levels) // SAMPLED)]
        counts = np.bincount(rows.ravel(), minlength=2 ** (8 * self.levels.itemsize))
        return counts[self.places]

    def apart(self, table: np.ndarray) -> float:
        """Return the share of lit pixels that a table (n,) shows neither black nor white.

        Lit is what is neither padding nor the most frequent value, as the background of a detector.
        """
        lit = np.where(self.padding, 0, self.sample)
        shown = table[lit > 0]
        if not len(shown):
            return 0.0
        low, high = float(shown.min()), float(shown.max())
        lit[lit.argmax()] = 0
        edge = NEAR * (high - low)
        between = (table > low + edge) & (table < high - edge)
        return float(lit[between].sum() / max(1, lit.sum()))

    def extremes(self, table: np.ndarray) -> tuple[float, float]:
        """Return the lowest and the highest entry of a table (n,) over the n values."""
        steps = np.diff(table)
        if not self.padding.any() and ((steps >= 0).all() or (steps <= 0).all()):
            shown = table[[0, -1]]  # the lowest and the highest value occur
        else:
            shown = table[self.mask]
        return (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 0.0)


def _first_usable(
    values: np.ndarray, curves: Iterator[tuple[str, Curve]], seen: _Seen, remarks: set[str]
) -> np.ndarray:
    """Return the values by the first curve that keeps them apart, else unchanged; name the others.

    A curve need not keep apart what are two values anyway.
    """
    lowest, highest = seen.extremes(values)
    for name, curve in curves:
        try:
            table = curve(values).astype(np.float32)
            if np.isfinite(table).all():
                low, high = seen.extremes(table)
                if lowest == highest or (
                    low < high and (seen.apart(table) >= APART or seen.apart(values) < APART)
                ):
                    return table
        except (ValueError, TypeError, IndexError, AttributeError):
            pass
        remarks.add(name)
    return values


def _modality_curves(dataset: pydicom.Dataset) -> Iterator[tuple[str, Curve]]:
    if items := dataset.get("ModalityLUTSequence"):
        yield LUT_IGNORED, partial(_lut, item=items[0], order=_order(dataset))
    elif slope := _texts(dataset, "RescaleSlope"):
        intercept = (_texts(dataset, "RescaleIntercept") or ["0"])[0]
        yield LUT_IGNORED, partial(_rescaled, slope=slope[0], intercept=intercept)


def _voi_curves(dataset: pydicom.Dataset) -> Iterator[tuple[str, Curve]]:
    for item in dataset.get("VOILUTSequence") or []:
        yield LUT_IGNORED, partial(_lut, item=item, order=_order(dataset))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    centers, widths = (_texts(dataset, name) for name in ("WindowCenter", "WindowWidth"))
    if centers and widths:
        for center, width in zip(centers, widths, strict=False):
            yield WINDOW_IGNORED, partial(_window, center=center, width=width, function=function)


def _order(dataset: pydicom.Dataset) -> str:
    """Return NumPy's sign of the byte order of words."""
    return ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"


def _rescaled(values: np.ndarray, slope: str, intercept: str) -> np.ndarray:
    return values * float(slope) + float(intercept)


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


def _lut(values: np.ndarray, item: pydicom.Dataset, order: str) -> np.ndarray:
    """Return values by a LUT of 8 to 16 bits (PS3.3 C.11.2.1.1)."""
    entries, first, bits = (int(part) for part in item.LUTDescriptor)
    entries = entries or 2**16
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # the descriptor's sign follows the pixels', which pydicom may not know
    data = _entries(item["LUTData"].value, entries, bits, order)
    return data[np.clip(values.astype(np.int64) - first, 0, entries - 1)]


def _entries(data: object, entries: int, bits: int, order: str) -> np.ndarray:
    if not 8 <= bits <= 16:
        raise ValueError("a LUT has 8 to 16 bits")
    if isinstance(data, bytes):
        # Entries of 8 bits may be packed, or stored in words all the same.
        packed = bits == 8 and len(data) < 2 * entries
        words = np.frombuffer(data + bytes(len(data) % 2), order + "u2").astype("<u2")
        found = words.view(np.uint8) if packed else words
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
