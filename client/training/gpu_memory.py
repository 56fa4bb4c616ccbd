"""The site's limit on GPU memory."""

import torch
from torch import nn

from client.errors import RefusedError
from client.site.config import SiteFile
from mama.exchange.codes import ErrorCode


def limit_gpu_memory(site: SiteFile, model: nn.Module, device: torch.device) -> None:
    """Limit this process's tensors on a GPU to the site's policy.

    A step's memory beyond the weights is known only when it runs: a step that exceeds the limit
    fails as on a smaller GPU, after smaller chunks were tried. CUDA's own memory, some hundred MiB
    per process, is not counted.

    Raises:
        RefusedError: the weights and the gradients of trained weights alone exceed the limit.
    """
    limit_gib = site.policy.max_gpu_gib
    if limit_gib is None or device.type != "cuda":
        return
    limit = limit_gib * 2**30
    if least_memory(model) > limit:
        raise RefusedError(ErrorCode.POLICY_MEMORY)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)


def least_memory(model: nn.Module) -> int:
    """Return the bytes of weights and gradients, the minimum for any batch and optimiser."""
    return sum(p.numel() * p.element_size() * (1 + p.requires_grad) for p in model.parameters())
