"""Assembly of an update in one copy of memory, where Flower needs three.

The memory is returned once the update is dropped. Replaces private functions of flwr 1.41 and 1.42.
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
    """Make this process assemble arrays piece by piece, and return freed blocks of 1 MiB or more.

    Otherwise glibc keeps the memory of the pieces, up to two updates.
    """
    Array.inflate = classmethod(_inflate)  # type: ignore[assignment,method-assign]
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE)


def _inflate(
    cls: type[Array], object_content: bytes, children: dict[str, InflatableObject] | None = None
) -> Array:
    """Inflate an array as Flower does, but free each piece once it is copied.

    Errors of the sender are ValueErrors. The total size was bounded before, by
    `mama.exchange.message_size`.
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
