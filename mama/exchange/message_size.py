"""Size of a received message, computed from its pieces before they are assembled.

Flower sends a message in pieces: `kind children length`, a zero byte, and a body. Chunks contain
the bytes of arrays; all other pieces describe how the message is assembled from them. An array
refers to its chunks by index into its list of children, any number of times, so that a few bytes
can expand to gigabytes.
"""

import json
from collections.abc import Iterable

from mama.errors import ProtocolError
from mama.exchange.codecs.block import MAX_HEADER as BLOCK_HEADER

# Bytes of all pieces but the chunks: for the header of the largest message, and per chunk.
HEADERS = 5 * 2**20
CHUNK_OVERHEAD = 256
# Smallest average piece that is accepted (Flower's chunks have 5 MiB), and extra pieces.
MIN_PIECE = 2**16
EXTRA_PIECES = 64


def most_bytes(values: int) -> int:
    """Return the largest size of a block in any codec; a delta may fail to shrink."""
    return 4 * values + values // 8 + BLOCK_HEADER


class MessageSize:
    """Running total of the size of one message's pieces.

    Args:
        room: bytes of arrays that the message may contain, with repeated chunks counted each time.
    """

    def __init__(self, room: int):
        self._room = room
        self._max_pieces = EXTRA_PIECES + room // MIN_PIECE
        self._chunks: dict[str, int] = {}
        self._arrays: list[bytes] = []
        self._bytes = self._other = 0

    def distinct(self, names: Iterable[str]) -> list[str]:
        """Return the announced names without duplicates, in order.

        Raises:
            ProtocolError: there are too many.
        """
        kept: dict[str, None] = {}
        for count, name in enumerate(names):
            if count == self._max_pieces:
                raise ProtocolError("the message has too many pieces")
            kept[name] = None
        return list(kept)

    def add(self, name: str, content: bytes) -> None:
        """Count a piece.

        Raises:
            ProtocolError: it is malformed, or the total exceeds the limit.
        """
        head, separator, _ = content[: len(b"ArrayChunk") + 40].partition(b"\0")
        if head.startswith(b"ArrayChunk "):
            # Anything else in the head could be as long as the piece, and Flower splits it.
            if not separator or not head.startswith(b"ArrayChunk  "):
                raise ProtocolError("a piece of the message is damaged")
            self._chunks[name] = len(content) - len(head) - 1
            self._bytes += self._chunks[name]
        else:
            self._other += len(content)
            if content.startswith(b"Array "):
                self._arrays.append(content)
        overhead = HEADERS + CHUNK_OVERHEAD * (self._room // MIN_PIECE)
        if self._bytes > self._room or self._other > overhead:
            raise _too_large()

    def require_room(self) -> None:
        """Check the arrays after all pieces are counted.

        Raises:
            ProtocolError: they do not consist of chunks, or exceed the limit.
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
    return ProtocolError("the message is too large")
