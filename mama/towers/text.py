"""The text tower: a frozen language model with LoRA and a trained sentence separator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig as PeftLora
from peft import inject_adapter_in_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers import logging as transformers_logging

from mama.config import TextTowerConfig
from mama.errors import ModelError


class Tokens(NamedTuple):
    """A batch of N reports of at most T tokens and S sentences.

    `ids` (N, T) int64, `mask` (N, T) bool; `separators` (N, S) int64 are the positions at which sentences end,
    `sentence_mask` (N, S) bool says which of them are real.
    """

    ids: Tensor
    mask: Tensor
    separators: Tensor
    sentence_mask: Tensor

    def to(self, device: torch.device) -> "Tokens":
        """The same batch on another device."""
        return Tokens(*(part.to(device) for part in self))


class TextFeatures(NamedTuple):
    """`pooled` (N, D) is the mean over real tokens, `sentences` (N, S, D) the states at the separators."""

    pooled: Tensor
    sentences: Tensor
    sentence_mask: Tensor


class TextTower(nn.Module):
    """A transformers model whose own weights stay frozen.

    Trained are LoRA adapters and `separator`, a vector added to the embedding of each sentence's separator
    token: sentence features are read there (MaMA, section 2), so the token must be able to learn.

    Args:
        folder: local folder of the base model (config, tokeniser and, for `from_weights`, weights).
        from_weights: False builds the architecture alone, for a caller that loads a state dict.

    Raises:
        ModelError: the folder holds no loadable model, no separator token, or LoRA's targets match nothing.
    """

    def __init__(self, config: TextTowerConfig, folder: str | Path, *, from_weights: bool = True):
        super().__init__()
        self.config = config
        self.tokeniser, backbone = _load(config, folder, from_weights)
        positions = getattr(backbone.config, "max_position_embeddings", config.max_tokens)
        if config.max_tokens > positions:
            raise ModelError(
                f"has {positions} positions, fewer than max_tokens",
                where=f"text.tower {config.tower}",
                fix=f"Set text.max_tokens to {positions} or less",
            )
        self.width: int = backbone.config.hidden_size
        self.backbone: Any = _with_lora(backbone, config)
        self.separator = nn.Parameter(torch.zeros(self.width))
        self._ids_of: dict[str, list[int]] = {}
        separator = _first(self.tokeniser.sep_token_id, self.tokeniser.eos_token_id)
        if separator is None:
            raise ModelError(
                "has neither a separator nor an end token", where=f"text.tower {config.tower}"
            )
        self.separator_id = separator
        start = _first(self.tokeniser.cls_token_id, self.tokeniser.bos_token_id)
        self.start_id = separator if start is None else start

    def tokenise(self, reports: Sequence[Sequence[str]]) -> Tokens:
        """Tokens of N reports, each a sequence of sentences; a report over `max_tokens` ends with a sentence."""
        rows = [self._row(report) for report in reports]
        length = max(1, max(len(ids) for ids, _ in rows))
        most = max(1, max(len(ends) for _, ends in rows))
        ids = torch.zeros(len(rows), length, dtype=torch.int64)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        separators = torch.zeros(len(rows), most, dtype=torch.int64)
        sentence_mask = torch.zeros(len(rows), most, dtype=torch.bool)
        for row, (tokens, ends) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
            separators[row, : len(ends)] = torch.tensor(ends, dtype=torch.int64)
            sentence_mask[row, : len(ends)] = True
        return Tokens(ids, mask, separators, sentence_mask)

    def forward(self, tokens: Tokens) -> TextFeatures:
        """Encode a batch of reports."""
        at_separators = torch.zeros_like(tokens.mask).scatter_(
            1, tokens.separators, tokens.sentence_mask
        )
        embedded = self.backbone.get_input_embeddings()(tokens.ids)
        embedded = embedded + at_separators.unsqueeze(-1) * self.separator
        states = self.backbone(
            inputs_embeds=embedded, attention_mask=tokens.mask.long()
        ).last_hidden_state
        weights = tokens.mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1)
        index = tokens.separators.unsqueeze(-1).expand(-1, -1, states.shape[-1])
        return TextFeatures(
            pooled, states.gather(1, index)[tokens.sentence_mask], tokens.sentence_mask.sum(1).cpu()
        )

    def set_checkpointing(self, on):
        pass

    def _row(self, report: Sequence[str]) -> tuple[list[int], list[int]]:
        ids = [self.start_id]
        ends: list[int] = []
        for sentence in report:
            words = self._sentence_ids(sentence)
            if not words:
                continue
            room = self.config.max_tokens - len(ids) - 1
            if len(words) > room and ends:
                break
            ids += [*words[:room], self.separator_id]
            ends.append(len(ids) - 1)
        return ids, ends

    def _sentence_ids(self, sentence: str) -> list[int]:
        if sentence not in self._ids_of:
            self._ids_of[sentence] = self.tokeniser(sentence, add_special_tokens=False)["input_ids"]
        return self._ids_of[sentence]


# Its progress bar and table of unused weights say nothing to our users; failures raise.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


def _load(config: TextTowerConfig, folder: str | Path, from_weights: bool) -> tuple[Any, Any]:
    try:
        tokeniser = AutoTokenizer.from_pretrained(folder)
        settings = AutoConfig.from_pretrained(folder)
        if config.layers is not None:
            settings.num_hidden_layers = min(config.layers, settings.num_hidden_layers)
        # A pooler would be a frozen layer without use.
        extra = {"add_pooling_layer": False} if settings.model_type in ("bert", "roberta") else {}
        if from_weights:
            backbone = AutoModel.from_pretrained(
                folder, config=settings, use_safetensors=True, dtype=torch.float32, **extra
            )
        else:
            backbone = AutoModel.from_config(settings, **extra)
    except Exception as error:
        raise ModelError(
            f"cannot be loaded ({type(error).__name__})",
            where=f"text.tower {config.tower}",
            fix="Install it, or map its name to a folder with config, tokeniser and safetensors "
            "under `models` in the site file",
        ) from None
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout_prob", None), float):
            module.dropout_prob = 0.0
    return tokeniser, backbone


def _with_lora(backbone: nn.Module, config: TextTowerConfig) -> nn.Module:
    lora = config.lora
    settings = PeftLora(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets
    )
    try:
        backbone = inject_adapter_in_model(settings, backbone)
    except ValueError:
        raise ModelError(
            f"no layer's name ends in {', '.join(lora.targets)}",
            where=f"text.lora.targets for {config.tower}",
            fix="Name the attention projections of this architecture, such as query and value",
        ) from None
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad = "lora_" in name
    return backbone


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
