"""Loader of pretrained language models and their tokenisers, from a folder or the hub."""

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
from mama.towers.checks.loaded import require_finite, require_loaded, shared_prefix
from mama.towers.checks.words import brief, require_words
from mama.towers.locate import MAPPED, refuse_adapter, refuse_code

# The progress bar and the table of unused weights mean nothing to users; failures still raise.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


def load_language_model(
    config: TextTowerConfig, folder: str | Path, *, from_weights: bool
) -> tuple[Any, Any]:
    """Load a tokeniser and an encoder or causal model without its head and without dropout.

    `base_bits` quantises the linear layers' weights with bitsandbytes, in 4 bits as NF4 (Dettmers
    et al., QLoRA, 2023). That part has never been run, because bitsandbytes was not available.

    Args:
        config: the experiment's text tower.
        folder: local folder with config, tokeniser and safetensors, or a name on the hub.
        from_weights: False builds the architecture with random weights, never quantised.

    Returns:
        The tokeniser and the model.

    Raises:
        ModelError: the model cannot be loaded, its file lacks a tensor or holds one that is not
            finite, its tokeniser knows no words, it is an encoder-decoder, it has too few
            positions, or bitsandbytes is missing.
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
            fix=f"Install it, or specify its folder (config, tokeniser, safetensors) {MAPPED} "
            "(HF_HUB_OFFLINE=1 avoids the hub's retries)",
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
    """Load a model from a file whose tensor names may share a prefix."""
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
    """Return whether the architecture can omit its pooler, an unused frozen layer."""
    model: Any = AutoModel._model_mapping.get(type(settings), None)
    return model is not None and "add_pooling_layer" in signature(model).parameters


def _settings(config: TextTowerConfig, folder: str | Path) -> Any:
    settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.layers is not None:
        settings.num_hidden_layers = min(config.layers, settings.num_hidden_layers)
    # The key-value cache serves text generation only, and frozen weights need no dropout.
    settings.use_cache = False
    for name, value in settings.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(settings, name, 0.0)
    # The same function (GPT-2's tanh approximation of GELU) in one kernel instead of eight.
    if getattr(settings, "activation_function", None) == "gelu_new":
        settings.activation_function = "gelu_pytorch_tanh"
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
    """Return the maximal number of positions, None if the model has no limit."""
    for name, module in backbone.named_modules():
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            # RoBERTa and its variants number positions from the padding token's id + 1.
            return module.num_embeddings - module.padding_idx - 1
    return getattr(backbone.config, "max_position_embeddings", None)
