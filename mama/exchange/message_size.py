"""The size of a message whose pieces come from the other side, known before they are put together.

Flower sends a message as pieces: `kind children length`, a zero byte, and a body. Chunks hold the bytes of arrays. All
other pieces say how the message is made of them: an array names its chunks by their places in a list of its children,
any of them as often as it likes, so that a few bytes can stand for gigabytes.
"""

import json
from collections.abc import Iterable

from mama.errors import ProtocolError
from mama.exchange.block import MAX_HEADER as BLOCK_HEADER

# Bytes of all pieces but the chunks, for the header of the largest answer or task, and of those that a chunk needs.
HEADERS = 5 * 2**20
A_CHUNK = 256
# Flower's chunks have 5 MiB; pieces of a message may be this small before they are too many.
SMALLEST = 2**16
FEW = 64


def most_bytes(values: int) -> int:
    """Bytes that a block of so many values has at most, with whatever codec: a change may fail to get smaller."""
    return 4 * values + values // 8 + BLOCK_HEADER


class MessageSize:
    """The size that the pieces of one message add up to.

    Args:
        room: bytes of arrays that the message may hold, each chunk counted as often as it is used.
    """

    def __init__(self, room: int):
        self._room = room
        self._most = FEW + room // SMALLEST
        self._chunks: dict[str, int] = {}
        self._arrays: list[bytes] = []
        self._bytes = self._other = 0

    def distinct(self, names: Iterable[str]) -> list[str]:
        """The names of the pieces that are announced, each once, in their order.

        Raises:
            ProtocolError: too many.
        """
        kept: dict[str, None] = {}
        for count, name in enumerate(names):
            if count == self._most:
                raise ProtocolError("more pieces than the message can have")
            kept[name] = None
        return list(kept)

    def add(self, name: str, content: bytes) -> None:
        """Count a piece.

        Raises:
            ProtocolError: it is none, or with it there are more bytes than there is room for.
        """
        head, separator, _ = content[: len(b"ArrayChunk") + 40].partition(b"\0")
        if head.startswith(b"ArrayChunk "):
            # Anything else in the head could be as long as the piece, and is taken apart into words.
            if not separator or not head.startswith(b"ArrayChunk  "):
                raise ProtocolError("a piece of the message is damaged")
            self._chunks[name] = len(content) - len(head) - 1
            self._bytes += self._chunks[name]
        else:
            self._other += len(content)
            if content.startswith(b"Array "):
                self._arrays.append(content)
        if self._bytes > self._room or self._other > HEADERS + A_CHUNK * (self._room // SMALLEST):
            raise _too_large()

    def require_room(self) -> None:
        """Check the arrays, once all pieces are counted.

        Raises:
            ProtocolError: they are not made of chunks, or add up to more than there is room for.
        """
        total = 0
        for content in self._arrays:
            try:
                head, _, body = content.partition(b"\0")
                _, children, _ = head.decode().split(" ")
                names = children.split(",") if children else []
                places = json.loads(body.decode())["arraychunk_ids"]
                total += sum(self._chunks[names[place]] for place in places)
            except (ValueError, LookupError, TypeError, RecursionError):
                raise ProtocolError("a piece of the message is damaged") from None
            if total > self._room:
                raise _too_large()


def _too_large() -> ProtocolError:
    return ProtocolError("more bytes than the message can have")
