"""Autocast: which number format the forward pass runs in. Weights and optimiser state are always fp32."""

from contextlib import AbstractContextManager

import torch


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype for a config's `precision`; `auto` is bf16 where the device computes in it, else fp32."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """The forward pass's context."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast computes matrix products in here and now; None where it is off."""
    on = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else None
