"""Device and precision of the forward pass; weights and optimiser state are always fp32."""

import os
import re
from contextlib import AbstractContextManager

import torch

from mama.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:1`; `auto` is this process's GPU if any.

    Raises:
        ConfigError: another name, or a GPU that does not exist.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if gpus else "cpu")
    where = f"--device {name}"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError("is not a device", where=where, fix="Choose auto, cpu, cuda or cuda:1")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        have = f"only {gpus} found" if gpus else "none found, or this PyTorch has no CUDA support"
        raise ConfigError(f"no such GPU: {have}", where=where, fix="Choose auto or cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a config's `precision`; `auto` is bf16 if the device supports it."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Return the context of the forward pass."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the current autocast dtype of matrix products; None outside of autocast."""
    on = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else None
