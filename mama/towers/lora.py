"""Low-rank adapters on the linear layers of a tower."""

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig as PeftLora
from peft import inject_adapter_in_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from mama.config import TextTowerConfig
from mama.config.towers import LoraConfig
from mama.errors import ModelError


def add_lora(backbone: Any, config: TextTowerConfig) -> None:
    """Add adapters to a transformers model and freeze the rest; initially they change nothing.

    Raises:
        ModelError: no targets are configured and PEFT knows none for the architecture, or a target
            matches no linear layer.
    """
    where = f"text.lora.targets for {config.tower}"
    adapt(backbone, config.lora, config.lora.targets or _known_targets(backbone, where), where)


def adapt(model: nn.Module, lora: LoraConfig, targets: Sequence[str], where: str) -> None:
    """Add adapters to the linear layers whose names end in a target, and freeze the rest.

    Raises:
        ModelError: a target matches no linear layer; `where` is the key that names it.
    """
    linears = _linears(model)
    chosen: set[str] = set()
    for target in targets:
        matched = {name for name in linears if f".{name}".endswith(f".{target}")}
        if not matched:
            raise ModelError(
                f"no linear layer name ends in {target}", where=where, fix=choose_among(model)
            )
        chosen |= matched
    settings = PeftLora(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(chosen),
        # GPT-2's layers store weights as (inputs, outputs).
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "lora_" in name


def choose_among(model: nn.Module) -> str:
    """Return the advice to choose among the last parts of the linear layers' names."""
    return f"Choose among: {', '.join(sorted({name.split('.')[-1] for name in _linears(model)}))}"


def _linears(model: nn.Module) -> list[str]:
    kinds = (nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def _known_targets(backbone: Any, where: str) -> list[str]:
    kind = backbone.config.model_type
    targets = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
    if not isinstance(targets, list):
        raise ModelError(
            f"no attention projections are known for the architecture {kind}",
            where=where,
            fix=choose_among(backbone),
        )
    return targets
