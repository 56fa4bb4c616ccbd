"""Towers without adapters: the weights of LoRA added to the layers that they adapt."""

import copy
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


def merged(module: nn.Module) -> Any:
    """Return a copy of a module, on the CPU, in which PEFT's adapters are merged and gone.

    The outputs are equal up to rounding.
    """
    copied = copy.deepcopy(module).cpu().eval()
    adapted = [(name, m) for name, m in copied.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge()
        copied.set_submodule(name, layer.get_base_layer())
    return copied
