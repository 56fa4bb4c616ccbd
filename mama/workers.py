"""Several processes that train one model (torchrun): what they exchange within a step.

Every process encodes its share of a batch, gathers the embeddings of all, and computes the same losses on the whole
batch. Its backward pass yields what its own share adds to the gradient, so the sum over processes is exactly
the gradient of one process with the whole batch. torch's DistributedDataParallel is not used: it averages, and
hooks into one forward pass a step, where gradient caching has many.
"""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) when it is alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join(device: torch.device) -> None:
    """Meet the other processes that torchrun started, to compute on `device`; alone it does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # Counts and the like stay on the CPU, which NCCL cannot send.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo")


def share(rows: int) -> slice:
    """This process's rows of a batch."""
    rank, count = world()
    return slice(rank * rows // count, (rank + 1) * rows // count)


def gathered(tensor: Tensor) -> Tensor:
    """All processes' rows of `tensor` (n, ...), in the order of ranks; the gradient returns to one's own rows.

    The numbers of rows may differ. Complete where every process computes the same loss from the result.
    """
    if world()[1] == 1:
        return tensor
    gather: Tensor = _Gather.apply(tensor)
    return gather


def counted_once(parameter: Tensor) -> Tensor:
    """A parameter that all processes use for the same loss: its gradients add up to that of one process."""
    count = world()[1]
    value = parameter.view_as(parameter)
    if count > 1 and value.requires_grad:
        value.register_hook(lambda gradient: gradient / count)
    return value


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the processes' gradients; a parameter that one process did not use counts as zero there."""
    if world()[1] == 1:
        return
    parameters = list(parameters)
    device = parameters[0].device
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    dist.all_reduce(used)
    for parameter, users in zip(parameters, used.tolist(), strict=True):
        if users:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        rank, count = world()
        lengths = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(count)]
        dist.all_gather(lengths, torch.tensor([len(tensor)], device=tensor.device))
        rows = [int(length) for length in lengths]
        # Collectives move equal shapes.
        own = tensor.new_zeros(max(rows), *tensor.shape[1:])
        own[: len(tensor)] = tensor
        parts = [torch.empty_like(own) for _ in range(count)]
        dist.all_gather(parts, own)
        ctx.mine = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return gradient[ctx.mine]
