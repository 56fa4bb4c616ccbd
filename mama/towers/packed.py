"""Packed vision transformer blocks: weights see all tokens at once, attention stays per image.

Blocks and modules are timm's own, including PEFT's adapters; only the forward pass is
reimplemented, because timm's expects images of equal length.
"""

from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from mama.errors import ModelError
from mama.towers.tissue import Packing


def check_packable(model: Any, where: str) -> None:
    """Refuse a transformer whose blocks differ from timm's standard block.

    Raises:
        ModelError: the blocks or their attention are of another class.
    """
    for block in model.blocks:
        attention = getattr(block, "attn", None)
        standard = type(block) is Block and type(attention) is Attention
        if not standard or getattr(attention, "gate", None) is not None:
            raise ModelError(
                f"has blocks that cannot skip background ({type(block).__name__}, "
                f"{type(attention).__name__})",
                where=where,
                fix="Set image.tokens: all",
            )


def packed_block(block: Any, tokens: Tensor, packing: Packing) -> Tensor:
    """Apply one timm Block to packed tokens (S, D)."""
    attended = block.ls1(_attention(block.attn, block.norm1(tokens), packing))
    tokens = tokens + _drop_path(block.drop_path1, attended, packing)
    return tokens + _drop_path(block.drop_path2, block.ls2(block.mlp(block.norm2(tokens))), packing)


def _attention(attention: Any, tokens: Tensor, packing: Packing) -> Tensor:
    heads = attention.qkv(tokens).unflatten(1, (3, attention.num_heads, attention.head_dim))
    query, key, value = heads.unbind(1)
    query, key = attention.q_norm(query), attention.k_norm(key)
    dropout = attention.attn_drop.p if attention.training else 0.0
    if not dropout and _fits_flash(value):
        attended = _flash(query, key, value, packing)
    else:
        attended = _image_by_image(query, key, value, packing.lengths, dropout)
    return attention.proj_drop(attention.proj(attention.norm(attended)))


def _fits_flash(value: Tensor) -> bool:
    """Return whether FlashAttention's kernels take such tensors (S, heads, C)."""
    low, width = value.dtype in (torch.bfloat16, torch.float16), value.shape[-1]
    return (
        low
        and value.is_cuda
        and width <= 256
        and width % 8 == 0
        and torch.cuda.get_device_capability(value.device) >= (8, 0)
    )


def _flash(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Attend within each image in one kernel: three tensors (S, heads, C) to (S, heads * C)."""
    starts, longest = packing.starts, packing.longest
    # A norm of queries and keys returns fp32 under autocast.
    query, key = query.to(value.dtype), key.to(value.dtype)
    attended = varlen_attn(query, key, value, starts, starts, longest, longest)
    assert isinstance(attended, Tensor)
    return attended.flatten(1)


# torch.compile would specialise on every image's length, for minutes; it compiles the rest.
@torch.compiler.disable
def _image_by_image(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], dropout: float
) -> Tensor:
    """Attend within each image: three tensors (S, heads, C) to (S, heads * C)."""
    attended = [
        scaled_dot_product_attention(_as_batch(q), _as_batch(k), _as_batch(v), dropout_p=dropout)
        for q, k, v in zip(*(part.split(lengths) for part in (query, key, value)), strict=True)
    ]
    return torch.cat([part.squeeze(0).transpose(0, 1).flatten(1) for part in attended])


def _as_batch(tokens: Tensor) -> Tensor:
    """Reshape one image's (L, heads, C) into a batch of one, (1, heads, L, C)."""
    return tokens.transpose(0, 1).unsqueeze(0)


def _drop_path(module: nn.Module, branch: Tensor, packing: Packing) -> Tensor:
    """Apply stochastic depth per image: timm's module draws one factor per image."""
    if isinstance(module, nn.Identity):
        return branch
    return branch * module(branch.new_ones(len(packing.lengths), 1))[packing.owner]
