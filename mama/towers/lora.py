"""Low-rank adapters on a frozen language model."""

from typing import Any

from peft import LoraConfig as PeftLora
from peft import inject_adapter_in_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from mama.config import TextTowerConfig
from mama.errors import ModelError


def add_lora(backbone: Any, config: TextTowerConfig) -> None:
    """Add adapters to a transformers model and freeze the rest; initially they change nothing.

    Raises:
        ModelError: no targets are configured and PEFT knows none for the architecture, or a target
            matches no layer, or a matched layer cannot be adapted.
    """
    lora = config.lora
    targets = lora.targets or _known_targets(backbone, config)
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name, _ in backbone.named_modules()):
            raise ModelError(
                f"no layer name ends in {target}",
                where=_where(config),
                fix=f"Choose among: {', '.join(_linear_names(backbone))}",
            )
    settings = PeftLora(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets),
        # GPT-2's layers store weights as (inputs, outputs).
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in backbone.modules()),
    )
    try:
        inject_adapter_in_model(settings, backbone)
    except ValueError:
        raise ModelError(
            f"PEFT does not support adapters for {', '.join(targets)}",
            where=_where(config),
            fix=f"Choose among: {', '.join(_linear_names(backbone))}",
        ) from None
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad = "lora_" in name


def _known_targets(backbone: Any, config: TextTowerConfig) -> list[str]:
    kind = backbone.config.model_type
    targets = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
    if not isinstance(targets, list):
        raise ModelError(
            f"no attention projections are known for the architecture {kind}",
            where=_where(config),
            fix=f"Choose among: {', '.join(_linear_names(backbone))}",
        )
    return targets


def _linear_names(backbone: nn.Module) -> list[str]:
    kinds = (nn.Linear, Conv1D)
    return sorted(
        {
            name.split(".")[-1]
            for name, module in backbone.named_modules()
            if isinstance(module, kinds)
        }
    )


def _where(config: TextTowerConfig) -> str:
    return f"text.lora.targets for {config.tower}"
