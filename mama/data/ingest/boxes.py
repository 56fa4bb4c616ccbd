"""Boxes of findings: from pixels of the original image to pixels of the cached picture."""

from collections.abc import Iterable

from mama.data.adapters.raw import RawBox
from mama.data.ingest.cache import Cached
from mama.data.studies import Box


def in_picture(boxes: Iterable[RawBox], entry: Cached) -> tuple[tuple[Box, ...], int]:
    """Return the boxes in pixels of the picture, and the number of those outside it.

    The picture is a crop of the original, mirrored if the chest wall was on the right, and
    resized; boxes are cut to it.

    Args:
        boxes: in pixels of the original.
        entry: a usable image of the cache.
    """
    found = [_placed(box, entry) for box in boxes]
    inside = tuple(box for box in found if box is not None)
    return inside, len(found) - len(inside)


def _placed(box: RawBox, entry: Cached) -> Box | None:
    top, left, bottom, right = entry.box
    x0, x1 = _scaled(box.x0, box.x1, left, right, entry.width)
    y0, y1 = _scaled(box.y0, box.y1, top, bottom, entry.height)
    if entry.mirrored:
        x0, x1 = entry.width - x1, entry.width - x0
    if x0 >= x1 or y0 >= y1:
        return None
    return Box(x0=x0, y0=y0, x1=x1, y1=y1, label=box.label)


def _scaled(low: float, high: float, start: int, stop: int, size: int) -> tuple[float, float]:
    """Return both ends in pixels of a side of `size` pixels, which covers `start` to `stop`."""
    scale = size / (stop - start)
    ends = [min(max((end - start) * scale, 0), size) for end in (low, high)]
    return round(ends[0], 2), round(ends[1], 2)
