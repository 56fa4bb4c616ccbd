"""The device of a name that a person gives."""

import os
import re

import torch

from mama.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of `auto`, `cpu`, `cuda` or `cuda:1`; `auto` takes this process's GPU when there is one.

    Raises:
        ConfigError: another name, or a GPU that is not here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if gpus else "cpu")
    where = f"--device {name}"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError("is no device", where=where, fix="Choose auto, cpu, cuda or cuda:1")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        have = f"only {gpus} here" if gpus else "none here, or this PyTorch has no CUDA"
        raise ConfigError(f"no such GPU: {have}", where=where, fix="Choose auto or cpu")
    return device
