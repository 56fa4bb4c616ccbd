"""Blocks, the wire format of tensors: a self-describing safetensors file with a checksum.

    8 bytes   length of the header
    header    JSON: format and version, the SHA-256 of all bytes after the checksum, the codec, the
              tensors' names and shapes, and the location of each part
    data      the parts end to end

Each tensor has one or more parts, one-dimensional arrays defined by its codec. A block with a delta
also names the model that it is based on and the resulting one.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, BinaryIO, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from mama.config import Section
from mama.errors import ProtocolError
from mama.exchange.protocol import Sha256

OPENING = b'{"__metadata__":{"format":"fedmama-1","sha256":"'
MAX_HEADER = 4 * 2**20
DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype("<f4"),
    "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_DIGEST = slice(8 + len(OPENING), 8 + len(OPENING) + 64)
_CHECKED = _DIGEST.stop

Shape = tuple[int, ...]
Parts = Mapping[str, np.ndarray]
_Size = Annotated[int, Field(ge=0, le=2**48)]


class Block(NamedTuple):
    """Opened block; `parts` are read-only views (n,) of its bytes, by tensor and part name."""

    codec: str
    shapes: dict[str, Shape]
    parts: dict[str, dict[str, np.ndarray]]
    base: str | None
    target: str | None


class _Metadata(Section):
    format: str
    sha256: Sha256
    codec: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")]
    shapes: Json[dict[str, Annotated[tuple[_Size, ...], Field(max_length=8)]]]
    base: Sha256 | None = None
    target: Sha256 | None = None


class _Entry(Section):
    dtype: Literal["F32", "U16", "I8", "U8"]
    shape: tuple[_Size]
    data_offsets: tuple[_Size, _Size]


class _Header(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, _Entry]

    metadata: _Metadata = Field(alias="__metadata__")


def pack(
    codec: str,
    shapes: Mapping[str, Shape],
    parts: Mapping[str, Parts],
    *,
    base: str | None = None,
    target: str | None = None,
) -> bytes:
    """Return a block of these tensors; equal tensors give equal bytes in any order.

    Args:
        codec: name of the codec.
        shapes: shape of each tensor.
        parts: arrays (n,) of a type in DTYPES, by tensor and part name.
        base: checksum of the model that a delta is based on.
        target: checksum of the model that a delta results in.
    """
    pieces = [
        (f"{part}:{name}", np.ascontiguousarray(array))
        for name, of_tensor in parts.items()
        for part, array in of_tensor.items()
    ]
    # Widest types first, so that each part is aligned to its own width.
    pieces.sort(key=lambda piece: (-piece[1].itemsize, piece[0]))
    metadata = {"codec": codec, "shapes": json.dumps(dict(sorted(shapes.items())))}
    metadata |= {key: value for key, value in (("base", base), ("target", target)) if value}
    entries, start = {}, 0
    for key, array in pieces:
        stop = start + array.nbytes
        entries[key] = {
            "dtype": _NAMES[array.dtype],
            "shape": [array.size],
            "data_offsets": [start, stop],
        }
        start = stop
    rest = b'",' + json.dumps(metadata)[1:].encode() + b"," + json.dumps(entries)[1:].encode()
    if not entries:
        rest = rest[:-2] + b"}"
    rest += b" " * (-(_CHECKED + len(rest)) % 8)
    digest = hashlib.sha256(rest)
    for _, array in pieces:
        digest.update(array.data)
    length = _CHECKED - 8 + len(rest)
    opening = length.to_bytes(8, "little") + OPENING + digest.hexdigest().encode()
    return b"".join([opening, rest, *(array.data for _, array in pieces)])


def digest_of(data: bytes | bytearray) -> str:
    """Return a block's claimed checksum, which identifies it; the start of the block suffices."""
    return data[_DIGEST].decode("ascii", "replace")


def unpack(data: bytes | bytearray) -> Block:
    """Open a received block without decoding its parts or allocating what it claims.

    Raises:
        ProtocolError: not a complete block of this version. Nothing of it is repeated.
    """
    length = int.from_bytes(data[:8], "little")
    whole = _CHECKED <= 8 + length <= min(len(data), 8 + MAX_HEADER)
    if not whole or data[8 : _DIGEST.start] != OPENING:
        raise _damaged()
    if hashlib.sha256(memoryview(data)[_CHECKED:]).hexdigest() != digest_of(data):
        raise _damaged()
    header = _header(data[8 : 8 + length])
    metadata = header.metadata
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in metadata.shapes}
    end = 0
    for key, entry in (header.__pydantic_extra__ or {}).items():
        part, _, name = key.partition(":")
        dtype, (size,), (start, stop) = DTYPES[entry.dtype], entry.shape, entry.data_offsets
        aligned = start == end and start % dtype.itemsize == 0
        fits = stop == start + size * dtype.itemsize <= len(data) - 8 - length
        if not aligned or not fits or name not in parts:
            raise _damaged()
        parts[name][part] = np.frombuffer(data, dtype, size, 8 + length + start)
        end = stop
    if 8 + length + end != len(data):
        raise _damaged()
    return Block(metadata.codec, metadata.shapes, parts, metadata.base, metadata.target)


def read_shapes(file: BinaryIO) -> dict[str, Shape]:
    """Return the tensor shapes of a block file, reading only its header and verifying nothing.

    Raises:
        ProtocolError: not a block of this version.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise _damaged()
    return _header(file.read(length)).metadata.shapes


def _header(text: bytes | bytearray) -> _Header:
    try:
        return _Header.model_validate_json(text)
    except ValidationError:
        raise _damaged() from None


def _damaged() -> ProtocolError:
    return ProtocolError("tensors are damaged or of another format")
