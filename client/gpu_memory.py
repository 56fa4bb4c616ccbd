"""The site's limit on GPU memory."""

import torch
from torch import nn

from client.refused import RefusedError
from client.sitefile import SiteFile
from mama.exchange.codes import ErrorCode


def limit_gpu_memory(site: SiteFile, model: nn.Module, device: torch.device) -> None:
    """Keep this process's tensors on a GPU within the site's policy.

    What a step takes beyond the weights shows only when it is taken: one that would take more than the policy allows
    fails as on a smaller GPU, after smaller chunks were tried. CUDA's own memory, some hundred MiB a process, is not
    counted.

    Raises:
        RefusedError: the weights, and gradients of those that train, are more by themselves.
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
    """Bytes that training takes whatever the batch and the optimiser: weights, and gradients of those that train."""
    return sum(p.numel() * p.element_size() * (1 + p.requires_grad) for p in model.parameters())
