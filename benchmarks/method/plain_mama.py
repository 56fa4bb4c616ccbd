"""Plain MaMA as in its published implementation, rewritten as a reference for benchmarks.

Dense square images in three channels, attention that returns its weights, text padded to its limit,
fp32, BatchNorm in the heads, the local loss report by report. By default its image tower
is a ViT-S/14.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Model

TEMPERATURE = 0.5  # of the image-image term


class PlainBatch(NamedTuple):
    """Views (N, 3, H, W); `ids` and `mask` (N, T) int64; separator positions (S,) per report."""

    first: Tensor
    second: Tensor
    ids: Tensor
    mask: Tensor
    separators: list[Tensor]


class Attention(nn.Module):
    """Eager self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, L, D) to (N, L, D) and the weights (N, heads, L, L)."""
        parts = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        weights = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2)), weights


class Block(nn.Module):
    """Pre-norm transformer block with layer scale."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale1, self.scale2 = (nn.Parameter(torch.full((width,), 1e-5)) for _ in range(2))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, L, D) to (N, L, D) and the attention weights."""
        attended, weights = self.attention(self.norm1(tokens))
        tokens = tokens + self.scale1 * attended
        return tokens + self.scale2 * self.mlp(self.norm2(tokens)), weights


class VisionTransformer(nn.Module):
    """ViT-S/14 with a class token and four registers that returns all attention weights."""

    def __init__(self, size: int, width: int = 384, depth: int = 12, heads: int = 6):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 14, 14)
        self.prefix = nn.Parameter(0.02 * torch.randn(1, 5, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // 14) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the mean token (N, D), the patches (N, P, D) and the attention weights."""
        patches = self.patch(images).flatten(2).transpose(1, 2) + self.position
        tokens, attentions = torch.cat([self.prefix.expand(len(images), -1, -1), patches], 1), []
        for block in self.blocks:
            tokens, weights = block(tokens)
            attentions.append(weights)
        return tokens.mean(1), self.norm(tokens)[:, 5:], attentions


def eager_gpt2(folder: Path) -> GPT2Model:
    """Load a GPT-2 whose attention is eager."""
    return GPT2Model.from_pretrained(folder, attn_implementation="eager", use_cache=False)


class PlainMaMA(nn.Module):
    """Towers, heads and the four terms."""

    def __init__(
        self, size: int, gpt2: GPT2Model, width: int = 384, heads: int = 6, embedding: int = 512
    ):
        super().__init__()
        self.image = VisionTransformer(size, width, heads=heads)
        lora = LoraConfig(r=8, lora_alpha=32, target_modules=["c_attn"], fan_in_fan_out=True)
        self.text = get_peft_model(gpt2, lora)
        self.image_projection = nn.Linear(width, embedding)
        self.text_projection = nn.Linear(gpt2.config.n_embd, embedding)
        self.view_head = nn.Sequential(
            nn.Linear(width, 768, bias=False),
            nn.BatchNorm1d(768),
            nn.ReLU(),
            nn.Linear(768, embedding, bias=False),
            nn.BatchNorm1d(embedding),
        )
        self.patch_head = _local_head(width, embedding)
        self.sentence_head = _local_head(gpt2.config.n_embd, embedding)
        self.scales = nn.Parameter(torch.full((2,), 2.66))

    def forward(self, batch: PlainBatch) -> Tensor:
        """Return the sum of the four terms."""
        first, patches, _ = self.image(batch.first)
        second, _, _ = self.image(batch.second)
        output = self.text(batch.ids, attention_mask=batch.mask, output_attentions=True)
        states = output.last_hidden_state
        text = self.text_projection(states.mean(1))
        sentences = [row[places] for row, places in zip(states, batch.separators, strict=True)]
        return (
            _matched(_cosines(self.image_projection(first), text) * self.scales[0].exp())
            + _matched(_cosines(self.image_projection(second), text) * self.scales[0].exp())
            + _nt_xent(self.view_head(first), self.view_head(second))
            + self._local(patches, sentences)
        )

    def _local(self, patches: Tensor, sentences: list[Tensor]) -> Tensor:
        """Contrast each report with all images: mean of best patches and of best sentences."""
        patches = self.patch_head(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
        patches = F.normalize(patches, dim=-1)
        t2i, i2t = [], []
        for states in sentences:
            words = F.normalize(self.sentence_head(states), dim=-1)
            cosines = patches @ words.T
            t2i.append(cosines.max(1).values.mean(1))
            i2t.append(cosines.max(2).values.mean(1))
        scale = self.scales[1].exp()
        return _matched(scale * torch.stack(t2i)) + _matched(scale * torch.stack(i2t))


def _local_head(width: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 2048), nn.BatchNorm1d(2048), nn.ReLU(), nn.Linear(2048, embedding)
    )


def _cosines(rows: Tensor, columns: Tensor) -> Tensor:
    return F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T


def _matched(logits: Tensor) -> Tensor:
    """Return the symmetric cross-entropy with row n matching column n."""
    target = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)


def _nt_xent(first: Tensor, second: Tensor) -> Tensor:
    views = torch.cat([first, second])
    logits = _cosines(views, views) / TEMPERATURE
    logits = logits.masked_fill(
        torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf
    )
    return F.cross_entropy(logits, torch.arange(len(views), device=views.device).roll(len(first)))
