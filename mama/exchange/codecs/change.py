"""Exact delta from one global model to the next, for sites that hold the previous one.

A difference of floats does not add up again to the bit; the difference of their bit patterns as
integers does. Successive models differ in the lower bits, so the upper bytes of the differences are
mostly 0 and are compressed with zlib.
"""

import zlib

import numpy as np

from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays, check_shapes
from mama.exchange.codecs.base import DamagedError, Parts, take
from mama.exchange.codecs.block import Block, digest_of, pack
from mama.exchange.codecs.coding import decode, encode, flat
from mama.exchange.codecs.plain import finite

NAME = "change"


def encode_change(before: bytes, after: bytes) -> bytes:
    """Return a delta block from one model to another, both given as fp32 blocks of equal tensors.

    It contains no tensors if both are the same.
    """
    old, new = (decode(before), decode(after)) if before != after else ({}, {})
    parts = {name: {"deflated": _deflate(flat(old[name]), flat(new[name]))} for name in new}
    return pack(
        NAME,
        {name: array.shape for name, array in new.items()},
        parts,
        base=digest_of(before),
        target=digest_of(after),
    )


def apply_change(change: Block, before: bytes) -> bytes:
    """Return the fp32 block that results from applying a delta to the one it is based on.

    Raises:
        ProtocolError: `change` is damaged, is based on another model, or results in another one.
    """
    if change.codec != NAME or change.base != digest_of(before):
        raise ProtocolError("the delta is based on another model")
    if change.target == change.base:
        return before
    old: Arrays = decode(before)
    check_shapes(change.shapes, {name: array.shape for name, array in old.items()})
    new: Arrays = {}
    for name, array in old.items():
        try:
            new[name] = _inflate(change.parts[name], flat(array)).reshape(array.shape)
        except DamagedError as error:
            raise ProtocolError(str(error), where=name) from None
    after = encode(new)
    if digest_of(after) != change.target:
        raise ProtocolError("the delta does not result in the model it names")
    return after


def _deflate(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the compressed difference, bytes (m,), of two float32 (n,)."""
    difference = new.view(np.int32) - old.view(np.int32)
    # Zigzag: small positive and negative numbers both get upper bytes of 0.
    folded = (difference << 1) ^ (difference >> 31)
    planes = np.ascontiguousarray(folded.view(np.uint8).reshape(-1, 4).T)
    # Runs of equal bytes and Huffman codes: as small as a full search here, at twice the speed.
    packer = zlib.compressobj(1, zlib.DEFLATED, strategy=zlib.Z_RLE)
    return np.frombuffer(packer.compress(planes.data) + packer.flush(), np.uint8)


def _inflate(parts: Parts, old: np.ndarray) -> np.ndarray:
    """Return the new float32 (n,); unpacks at most the bytes that fit."""
    size = parts["deflated"].size if "deflated" in parts else 0
    (packed,) = take(parts, deflated=(np.uint8, size))
    unpacker = zlib.decompressobj()
    try:
        planes = unpacker.decompress(packed.data, 4 * old.size + 1)
    except zlib.error:
        raise DamagedError("tensor's delta cannot be decompressed") from None
    if len(planes) != 4 * old.size or not unpacker.eof or unpacker.unused_data:
        raise DamagedError("tensor's delta has another size")
    columns = np.frombuffer(planes, np.uint8).reshape(4, -1).T
    folded = np.ascontiguousarray(columns).view(np.uint32).reshape(-1)
    difference = (folded >> 1) ^ -(folded & 1)
    return finite((old.view(np.uint32) + difference).view(np.float32))
