"""Communication within a step between several processes that train one model (torchrun).

Every process encodes its share of a batch, gathers all embeddings, and computes the same losses on
the whole batch. Its backward pass yields its own share's contribution to the gradient, so the sum
over processes is exactly the gradient of one process with the whole batch. torch's
DistributedDataParallel is not used: it averages, and hooks into one forward pass per step, while
gradient caching has many.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 64 * 2**20
_T = TypeVar("_T", bound=Tensor)


def world() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join(device: torch.device) -> None:
    """Join the process group of torchrun to compute on `device`; no-op for a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # Counts and the like are on the CPU, which NCCL does not support.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo")


def share(rows: int) -> slice:
    """Return this process's rows of a batch."""
    rank, count = world()
    return slice(rank * rows // count, (rank + 1) * rows // count)


def gathered(tensor: Tensor) -> Tensor:
    """Return all processes' rows of `tensor` (n, ...) in rank order; gradients flow to own rows.

    Processes may have different numbers of rows. The gradient is complete if every process
    computes the same loss from the result.
    """
    if world()[1] == 1:
        return tensor
    gather: Tensor = _Gather.apply(tensor)
    return gather


def counted_once(parameter: Tensor) -> Tensor:
    """Return a parameter whose gradients, from the same loss in all processes, add up to one's."""
    count = world()[1]
    value = parameter.view_as(parameter)
    if count > 1 and value.requires_grad:
        value.register_hook(lambda gradient: gradient / count)
    return value


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the processes' gradients; a parameter unused in a process counts as zero there.

    One that no process uses keeps no gradient. The number of collectives, each of which waits for
    all processes, grows with the bytes and not with the number of parameters.
    """
    if world()[1] == 1:
        return
    parameters = list(parameters)
    device = parameters[0].device
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    dist.all_reduce(used)
    summed = [p for p, users in zip(parameters, used.tolist(), strict=True) if users]
    for bucket in buckets(summed):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        total = flat(gradients)
        dist.all_reduce(total)
        parts = total.split([p.numel() for p in bucket])
        for parameter, gradient, part in zip(bucket, gradients, parts, strict=True):
            parameter.grad = gradient.copy_(part.view_as(gradient))


def buckets(tensors: Iterable[_T], most: int = BUCKET_BYTES) -> Iterator[list[_T]]:
    """Yield the tensors in groups of one type and `most` bytes, or a single larger one.

    The groups are the same in all processes.
    """
    bucket: list[_T] = []
    size = 0
    for tensor in sorted(tensors, key=lambda t: str(t.dtype)):
        if bucket and (size + tensor.nbytes > most or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return the values of tensors as one vector; a single contiguous tensor is not copied."""
    parts = [tensor.flatten() for tensor in tensors]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        rank, count = world()
        lengths = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(count)]
        dist.all_gather(lengths, torch.tensor([len(tensor)], device=tensor.device))
        rows = [int(length) for length in lengths]
        # Collectives require equal shapes.
        own = tensor.new_zeros(max(rows), *tensor.shape[1:])
        own[: len(tensor)] = tensor
        parts = [torch.empty_like(own) for _ in range(count)]
        dist.all_gather(parts, own)
        ctx.own_rows = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return gradient[ctx.own_rows]
