"""One copy of an update in memory where Flower has three while it puts it together, and none once it is dropped.

Flower's private functions, for flwr 1.41 and 1.42.
"""

import ctypes
import json
from collections import Counter
from io import BytesIO
from typing import cast

from flwr.app import Array
from flwr.app.message.arraychunk import ArrayChunk
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_children_ids_from_object_content,
)

M_MMAP_THRESHOLD = -3  # malloc.h
LARGE = 2**20


def stay_lean() -> None:
    """Let this process put arrays together piece by piece, and give freed memory of a mebibyte and more back at once.

    Else glibc keeps the pieces' memory, which is up to two updates, for the next ones.
    """
    Array.inflate = classmethod(_inflate)  # type: ignore[assignment,method-assign]
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE)


def _inflate(
    cls: type[Array], object_content: bytes, children: dict[str, InflatableObject] | None = None
) -> Array:
    """As Flower's, but each piece is let go of once it is in its place. The other side's errors are ValueErrors.

    What the pieces add up to was bounded before, by `mama.exchange.message_size`.
    """
    pieces = cast(dict[str, ArrayChunk], children or {})
    names = get_object_children_ids_from_object_content(object_content)
    try:
        body = json.loads(get_object_body(object_content, cls))
        order = [names[place] for place in body["arraychunk_ids"]]
        array = cls(dtype=body["dtype"], shape=tuple(body["shape"]), stype=body["stype"], data=b"")
    except (LookupError, TypeError):
        raise ValueError("not an array") from None
    if set(order) != set(pieces):
        raise ValueError("pieces of another array")
    uses, data = Counter(order), BytesIO()
    for name in order:
        data.write(pieces[name].data)
        uses[name] -= 1
        if not uses[name]:
            pieces[name].data = memoryview(b"")
    array.data = data.getvalue()  # the buffer itself, not a copy
    return array
