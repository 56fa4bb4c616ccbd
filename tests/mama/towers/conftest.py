"""Tiny random language models of several architectures, written as folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

WORDS = ("no", "mass", "the", "left", "breast", "is", "dense", ".")
SIZES: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
    },
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 32},
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
}
SIZES["roberta"] = SIZES["bert"] | {"pad_token_id": 0}
SIZES["olmo"] = SIZES["llama"]
SPECIAL: dict[str, dict[str, str]] = {
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "llama": {"bos_token": "<s>", "eos_token": "</s>"},
}

LanguageModel = Callable[..., Path]


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Writes a tiny model of a kind, with the kind's own special tokens or the given ones."""
    return lambda kind, special=None: _write(tmp_path_factory.mktemp(kind), kind, special)


def _write(folder: Path, kind: str, special: dict[str, str] | None) -> Path:
    if special is None:
        special = SPECIAL.get(kind, {"cls_token": "[CLS]", "sep_token": "[SEP]"})
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", *special.values(), *WORDS]))
    tokeniser = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokeniser, unk_token="[UNK]", pad_token="[PAD]", **special
    ).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, vocab_size=len(vocabulary), **SIZES[kind])
        AutoModel.from_config(config).save_pretrained(folder)
    return folder
