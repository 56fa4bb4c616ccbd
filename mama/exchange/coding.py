"""From named arrays to a block of bytes and back, by codec."""

import math
from collections.abc import Mapping

import numpy as np

from mama.config_federation import ExchangeConfig
from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays, check_shapes
from mama.exchange.block import Block, Shape, pack, unpack
from mama.exchange.codecs.base import Codec, DamagedError
from mama.exchange.codecs.int8 import Int8
from mama.exchange.codecs.plain import BFloat16, Float32
from mama.exchange.codecs.topk import TopK

FP32 = Float32()
CODECS: dict[str, Codec] = {codec.name: codec for codec in (FP32, BFloat16(), Int8(), TopK())}
# For a block that is read without knowing what it should hold: decoded bytes.
MAX_BYTES = 2**32


def uplink_codec(config: ExchangeConfig) -> Codec:
    """The codec of a site's updates."""
    return TopK(config.keep) if config.up == TopK.name else CODECS[config.up]


def encode(arrays: Mapping[str, np.ndarray], codec: Codec = FP32) -> bytes:
    """One self-describing, checksummed block of finite float32 arrays; equal arrays give equal bytes."""
    parts = {name: codec.encode(flat(array)) for name, array in arrays.items()}
    return pack(codec.name, {name: array.shape for name, array in arrays.items()}, parts)


def decode(
    data: bytes | bytearray,
    shapes: Mapping[str, Shape] | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Arrays:
    """The finite float32 arrays of a block from the other side; those of an fp32 block are views of `data`.

    Args:
        shapes: what it must hold, exactly; None takes the block's word, up to `max_bytes` of arrays.

    Raises:
        ProtocolError: damaged, of another format or codec, or it holds other or infinite values. The text is fixed
            and repeats nothing of the block; it names a tensor only where `shapes` does.
    """
    return decode_block(unpack(data), shapes, max_bytes=max_bytes)


def decode_block(
    block: Block, shapes: Mapping[str, Shape] | None = None, *, max_bytes: int = MAX_BYTES
) -> Arrays:
    """`decode` of an opened block."""
    codec = CODECS.get(block.codec)
    if codec is None:
        raise ProtocolError("tensors are of a codec that is not known here")
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
    """Values of a tensor, a side of 0 counted as 1: numpy refuses an empty array whose other sides are immense."""
    return math.prod(max(1, side) for side in shape)


def flat(array: np.ndarray) -> np.ndarray:
    """Its values (n,) as float32 in C order; a copy only where they are not."""
    return np.ascontiguousarray(array, np.float32).reshape(-1)
