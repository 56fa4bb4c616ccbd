"""Pretrained language models and their tokenisers, from a folder or the hub."""

import re
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BitsAndBytesConfig
from transformers import logging as transformers_logging

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.base import MAPPED, refuse_adapter, refuse_code
from mama.towers.loaded import require_finite, require_loaded, shared_prefix
from mama.towers.words import brief, require_words

# Its progress bar and table of unused weights say nothing to our users; failures raise.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


def load_language_model(
    config: TextTowerConfig, folder: str | Path, *, from_weights: bool
) -> tuple[Any, Any]:
    """A tokeniser and an encoder or causal model without its head, whose own dropout is off.

    `base_bits` quantises the linear layers' weights with bitsandbytes, in 4 bits as NF4 (Dettmers et al., QLoRA,
    2023). That part has not been run: bitsandbytes was not at hand.

    Args:
        folder: local folder with config, tokeniser and safetensors, or a name on the hub.
        from_weights: False builds the architecture at random, never quantised.

    Raises:
        ModelError: it cannot be loaded, its file lacks a tensor or holds one that is not finite, its tokeniser knows
            no words, it is an encoder-decoder, has too few positions, or bitsandbytes is missing.
    """
    where = f"text.tower {config.tower}"
    refuse_code(folder)
    refuse_adapter(folder)
    extra: dict[str, Any] = {}
    if config.base_bits is not None and from_weights:
        extra["quantization_config"] = _quantisation(config.base_bits)
    try:
        tokeniser = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        settings = _settings(config, folder)
        if _has_pooler(settings):
            extra["add_pooling_layer"] = False
        if from_weights:
            backbone = _from_file(config, folder, {"config": settings, **extra})
        else:
            backbone = AutoModel.from_config(settings, trust_remote_code=False, **extra)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"cannot be loaded ({type(error).__name__}: {brief(error)})",
            where=where,
            fix=f"Install it, or name its folder (config, tokeniser, safetensors) {MAPPED} "
            "(HF_HUB_OFFLINE=1 spares the hub's retries)",
        ) from None
    if settings.is_encoder_decoder:
        raise ModelError(
            "is an encoder-decoder", where=where, fix="Choose an encoder or a causal model"
        )
    require_words(tokeniser, where)
    positions = _positions(backbone)
    if positions is not None and config.max_tokens > positions:
        raise ModelError(
            f"has {positions} positions, fewer than max_tokens",
            where=where,
            fix=f"Set text.max_tokens to {positions} or less",
        )
    return tokeniser, backbone


def _from_file(config: TextTowerConfig, folder: str | Path, options: dict[str, Any]) -> Any:
    """The model with its file's weights, whose names may share a prefix that the architecture does not know."""
    where = f"text.tower {config.tower}"

    def read(**more: Any) -> tuple[Any, dict[str, Any]]:
        return AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
            **more,
        )

    backbone, info = read()
    prefix = shared_prefix(backbone, info, where)
    if prefix is not None:
        backbone, info = read(key_mapping={f"^{re.escape(prefix)}": ""})
    require_loaded(backbone, info, config.layers, where)
    require_finite(backbone.state_dict().items(), where)
    return backbone


def _has_pooler(settings: Any) -> bool:
    """True where the architecture can leave its pooler out, which would be a frozen layer without use."""
    model: Any = AutoModel._model_mapping.get(type(settings), None)
    return model is not None and "add_pooling_layer" in signature(model).parameters


def _settings(config: TextTowerConfig, folder: str | Path) -> Any:
    settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.layers is not None:
        settings.num_hidden_layers = min(config.layers, settings.num_hidden_layers)
    # Keys and values are kept for writing text only; what is frozen has no use for dropout.
    settings.use_cache = False
    for name, value in settings.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(settings, name, 0.0)
    return settings


def _quantisation(bits: int) -> BitsAndBytesConfig:
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            "bitsandbytes is not installed",
            where=f"text.base_bits {bits}",
            fix="Run: pip install bitsandbytes, or set text.base_bits: null",
        )
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")


def _positions(backbone: nn.Module) -> int | None:
    """How many tokens the model can number; None where it sets no limit."""
    for name, module in backbone.named_modules():
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            # RoBERTa and its kin count from the padding token's number on.
            return module.num_embeddings - module.padding_idx - 1
    return getattr(backbone.config, "max_position_embeddings", None)
