"""Device and precision of the forward pass; weights and optimiser state are always fp32."""

import os
import re
from contextlib import AbstractContextManager

import torch

from mama.errors import ConfigError


def device_of(name: str) -> torch.device:
    """Return the device that a name stands for; `auto` is this process's GPU if there is one."""
    if name == "auto":
        gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        return torch.device(gpu if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:1` of a command's option.

    Raises:
        ConfigError: another name, or a GPU that does not exist.
    """
    where = f"--device {name}"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError("is not a device", where=where, fix="Choose auto, cpu, cuda or cuda:1")
    device = device_of(name)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "auto" and device.type == "cuda" and (device.index or 0) >= gpus:
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
