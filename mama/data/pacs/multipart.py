"""The one object of a multipart answer (RFC 2046), read in pieces and never held whole."""

from collections.abc import Iterator

HEAD = 2**16  # bytes before an object: preamble and header of the part


class TruncatedError(Exception):
    """An answer that ends before its closing boundary."""


class MalformedError(Exception):
    """An answer that is not a single object."""


def only_part(pieces: Iterator[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield the content of the only part.

    Args:
        pieces: the body of the answer, in pieces of any size.
        boundary: the boundary that its content type names.

    Raises:
        TruncatedError: the body ends before the closing boundary.
        MalformedError: there are several parts, or none begins within `HEAD` bytes.
    """
    mark = b"\r\n--" + boundary
    _, data = _split(b"\r\n", mark, pieces)  # the first boundary need not follow a line break
    _, data = _split(data, b"\r\n\r\n", pieces)
    overlap = len(mark) - 1  # the boundary may be cut between two pieces
    while (end := data.find(mark)) < 0:
        yield data[:-overlap]
        data = data[-overlap:] + _more(pieces)
    yield data[:end]
    data = data[end + len(mark) :]
    while len(data) < 2:
        data += _more(pieces)
    if data[:2] != b"--":
        raise MalformedError


def _split(data: bytes, mark: bytes, pieces: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return what stands before and after a mark."""
    while mark not in data:
        if len(data) > HEAD:
            raise MalformedError
        data += _more(pieces)
    before, _, after = data.partition(mark)
    return before, after


def _more(pieces: Iterator[bytes]) -> bytes:
    piece = next(pieces, b"")
    if not piece:
        raise TruncatedError
    return piece
