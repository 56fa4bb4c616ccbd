"""A vision transformer's blocks on a packed batch: each weight sees all tokens at once, attention one image.

The blocks are timm's own and so are their modules, PEFT's adapters included; only their forward is written
again, because timm's expects images of equal length.
"""

from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mama.errors import ModelError
from mama.towers.tissue import Packing


def check_packable(model: Any, where: str) -> None:
    """Refuse a transformer whose blocks compute something else than timm's standard block.

    Raises:
        ModelError: its blocks or their attention are of another kind.
    """
    for block in model.blocks:
        attention = getattr(block, "attn", None)
        standard = type(block) is Block and type(attention) is Attention
        if not standard or getattr(attention, "gate", None) is not None:
            raise ModelError(
                f"has blocks that cannot leave out background ({type(block).__name__}, "
                f"{type(attention).__name__})",
                where=where,
                fix="Set image.tokens: all",
            )


def packed_block(block: Any, tokens: Tensor, packing: Packing) -> Tensor:
    """One timm Block on packed tokens (S, D)."""
    attended = block.ls1(_attention(block.attn, block.norm1(tokens), packing.lengths))
    tokens = tokens + _drop_path(block.drop_path1, attended, packing)
    return tokens + _drop_path(block.drop_path2, block.ls2(block.mlp(block.norm2(tokens))), packing)


def _attention(attention: Any, tokens: Tensor, lengths: list[int]) -> Tensor:
    heads = attention.qkv(tokens).unflatten(1, (3, attention.num_heads, attention.head_dim))
    query, key, value = heads.unbind(1)
    query, key = attention.q_norm(query), attention.k_norm(key)
    dropout = attention.attn_drop.p if attention.training else 0.0
    attended = _within_images(query, key, value, lengths, dropout)
    return attention.proj_drop(attention.proj(attention.norm(attended)))


# torch.compile would reason about every image's length, for minutes; around this it compiles the rest.
@torch.compiler.disable
def _within_images(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], dropout: float
) -> Tensor:
    """Each image's tokens attend to one another: three of (S, heads, C) to (S, heads * C)."""
    attended = [
        scaled_dot_product_attention(_one(q), _one(k), _one(v), dropout_p=dropout)
        for q, k, v in zip(*(part.split(lengths) for part in (query, key, value)), strict=True)
    ]
    return torch.cat([part.squeeze(0).transpose(0, 1).flatten(1) for part in attended])


def _one(tokens: Tensor) -> Tensor:
    """(L, heads, C) of one image as a batch of one: (1, heads, L, C)."""
    return tokens.transpose(0, 1).unsqueeze(0)


def _drop_path(module: nn.Module, branch: Tensor, packing: Packing) -> Tensor:
    """Stochastic depth drops whole images: timm's module draws one factor an image."""
    if isinstance(module, nn.Identity):
        return branch
    return branch * module(branch.new_ones(len(packing.lengths), 1))[packing.owner]
