"""Encode named arrays as a block of bytes and decode them, by codec."""

import math
from collections.abc import Mapping

import numpy as np

from mama.config.federation import ExchangeConfig
from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays, check_shapes
from mama.exchange.codecs.base import Codec, DamagedError
from mama.exchange.codecs.block import Block, Shape, pack, unpack
from mama.exchange.codecs.int8 import Int8
from mama.exchange.codecs.plain import BFloat16, Float32
from mama.exchange.codecs.topk import TopK

FP32 = Float32()
CODECS: dict[str, Codec] = {codec.name: codec for codec in (FP32, BFloat16(), Int8(), TopK())}
# Limit on decoded bytes of a block of unknown content.
MAX_BYTES = 2**32


def uplink_codec(config: ExchangeConfig) -> Codec:
    """Return the codec of a site's updates."""
    return TopK(config.keep) if config.up == TopK.name else CODECS[config.up]


def encode(arrays: Mapping[str, np.ndarray], codec: Codec = FP32) -> bytes:
    """Return a self-describing block of finite float32 arrays; equal arrays give equal bytes."""
    parts = {name: codec.encode(flat(array)) for name, array in arrays.items()}
    return pack(codec.name, {name: array.shape for name, array in arrays.items()}, parts)


def decode(
    data: bytes | bytearray,
    shapes: Mapping[str, Shape] | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Arrays:
    """Return the finite float32 arrays of a received block; for fp32 they are views of `data`.

    Args:
        data: the block.
        shapes: the exact expected content; None accepts the block's shapes up to `max_bytes`.
        max_bytes: limit on the size of the arrays where `shapes` is None.

    Raises:
        ProtocolError: damaged, of another format or codec, or with other or infinite values. The
            message is fixed and repeats nothing of the block; tensor names come from `shapes`.
    """
    return decode_block(unpack(data), shapes, max_bytes=max_bytes)


def decode_block(
    block: Block, shapes: Mapping[str, Shape] | None = None, *, max_bytes: int = MAX_BYTES
) -> Arrays:
    """Decode an opened block as `decode` does."""
    codec = CODECS.get(block.codec)
    if codec is None:
        raise ProtocolError("tensors have an unknown codec")
    if shapes is not None:
        check_shapes(block.shapes, shapes)
    elif 4 * sum(map(_room, block.shapes.values())) > max_bytes:
        raise ProtocolError("tensors are larger than allowed")
    arrays = {}
    for name, shape in (shapes or block.shapes).items():
        try:
            arrays[name] = codec.decode(block.parts[name], math.prod(shape)).reshape(shape)
        except DamagedError as error:
            raise ProtocolError(str(error), where=name if shapes else "") from None
    return arrays


def _room(shape: Shape) -> int:
    """Return a tensor's size with sides of 0 counted as 1.

    numpy rejects an empty array whose other sides are huge.
    """
    return math.prod(max(1, side) for side in shape)


def flat(array: np.ndarray) -> np.ndarray:
    """Return the values (n,) as float32 in C order, copied only if necessary."""
    return np.ascontiguousarray(array, np.float32).reshape(-1)
