"""Checks of the device: torch and CUDA, driver, memory errors, MIG mode and other processes."""

import os
from collections.abc import Iterator

import torch

from client.preflight.check import Check, fail, ok, warn
from client.service.status import ServiceFolder
from client.site.config import SiteFile
from client.training.cuda import RESTART, Fault, find_fault
from client.training.nvml import Driver, Gpu, Instance, Memory, read_driver
from mama.system.formats import gib
from mama.system.sealed import read_if_whole
from mama.system.supervise import children
from mama.training.device import device_of

GIB = 2**30
# Memory in use that is more than a display, and so another training or evaluation.
MUCH_MEMORY = 1 * GIB


def check_device(site: SiteFile) -> Iterator[Check]:
    """Check the device of the site file, and the GPU that this is."""
    known = f"torch {torch.__version__}"
    if site.device == "cpu":
        yield ok("device", f"{known} on the CPU, as configured")
        return
    # Before CUDA starts in this process, which takes memory on the GPU.
    driver = read_driver()
    device = device_of(site.device)
    usable = device.type == "cuda" and torch.cuda.is_available()
    if not usable or (device.index or 0) >= torch.cuda.device_count():
        yield _unusable(site.device, known)
        return
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    yield ok("device", f"{known}, {name}, {gib(free)} of {gib(total)} GiB free")
    if driver is not None:
        uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
        yield from check_gpu(site, driver, uuid)


def check_gpu(site: SiteFile, driver: Driver, uuid: str) -> Iterator[Check]:
    """Check what the driver reports of one GPU; what it does not report is left out.

    Args:
        site: the site file.
        driver: the driver and its GPUs, read before CUDA started in this process.
        uuid: CUDA's identifier of the GPU or MIG instance, without the prefix.
    """
    if driver.error:
        yield warn("driver", f"NVML: {driver.error}", "See `nvidia-smi` and the kernel's log")
    gpu, instance = _find(driver, uuid)
    if gpu is None:
        return
    yield _driver(driver, gpu)
    yield from _memory_errors(gpu)
    if gpu.mig:
        yield _mig(gpu, instance)
    elif gpu.mig is not None:
        yield ok("MIG", "off, the whole GPU is one device")
    memory = instance.memory if instance else gpu.memory
    if memory and (instance or not gpu.mig):
        yield _others(site, memory)


def _unusable(device: str, known: str) -> Check:
    fault = None if torch.version.hip else find_fault(device, torch.version.cuda)
    if fault is None and torch.version.cuda and not torch.version.hip:
        fault = Fault("lost", "the driver offers CUDA, but torch cannot start it", RESTART)
    if fault is None or fault.kind == "absent":
        if device == "auto":
            remedy = "Training on a CPU is slow; check the driver"
            return warn("device", f"{known} finds no GPU", remedy)
        return fail("device", f"{known} finds no {device}", "Correct `device`, or check the driver")
    verdict = warn if device == "auto" and fault.kind == "unused" else fail
    return verdict("device", f"{known} cannot use the GPU: {fault.cause}", fault.remedy)


def _find(driver: Driver, uuid: str) -> tuple[Gpu | None, Instance | None]:
    """Return CUDA's device in the driver's view; the only GPU if the identifiers do not match."""
    for gpu in driver.gpus:
        for instance in gpu.instances:
            if uuid and instance.uuid.removeprefix("MIG-") == uuid:
                return gpu, instance
        if uuid and gpu.uuid.removeprefix("GPU-") == uuid:
            return gpu, gpu.instances[0] if len(gpu.instances) == 1 else None
    if len(driver.gpus) != 1:
        return None, None
    (gpu,) = driver.gpus
    return gpu, gpu.instances[0] if len(gpu.instances) == 1 else None


def _driver(driver: Driver, gpu: Gpu) -> Check:
    parts = [f"NVIDIA {driver.version}"] if driver.version else []
    parts += [f"up to CUDA {driver.cuda[0]}.{driver.cuda[1]}"] if driver.cuda else []
    parts += [f"torch built for CUDA {torch.version.cuda}"] if torch.version.cuda else []
    if gpu.capability:
        parts.append(f"compute capability {gpu.capability[0]}.{gpu.capability[1]}")
    return ok("driver", ", ".join(parts))


def _memory_errors(gpu: Gpu) -> Iterator[Check]:
    counts = {
        "since the driver was loaded": gpu.uncorrected,
        "in the GPU's life": gpu.uncorrected_ever,
    }
    errors = [f"{count} {period}" for period, count in counts.items() if count]
    if gpu.remap_failed:
        yield warn("GPU memory", "a faulty row could not be replaced", "Have the GPU exchanged")
    if gpu.remap_pending:
        yield warn(
            "GPU memory",
            "a faulty page or row is replaced only at the next reset",
            "End all its processes and run `nvidia-smi --gpu-reset`, or restart the machine",
        )
    if errors:
        yield warn(
            "ECC",
            f"uncorrected memory errors: {', '.join(errors)}",
            "Restart the machine; have the GPU tested (`dcgmi diag -r 3`) if there are more",
        )
    elif gpu.retired:
        yield warn(
            "ECC",
            f"{gpu.retired} memory pages retired after uncorrected errors",
            "Have the GPU tested (`dcgmi diag -r 3`) if there are more",
        )
    elif gpu.ecc is not None:
        yield ok("ECC", "on, no uncorrected error" if gpu.ecc else "off")


def _mig(gpu: Gpu, instance: Instance | None) -> Check:
    count = len(gpu.instances)
    if instance is None:
        return warn(
            "MIG",
            f"on, with {count} instances: CUDA uses a part of the GPU, unknown which",
            "Set CUDA_VISIBLE_DEVICES to one of those that `nvidia-smi -L` lists (MIG-...)",
        )
    size = f", {gib(instance.memory.total)} GiB" if instance.memory else ""
    size += f" of {gib(gpu.memory.total)}" if instance.memory and gpu.memory else ""
    found = (
        f"instance {instance.name}{size} (GPU instance {instance.gpu_instance}, "
        f"compute instance {instance.compute_instance})"
    )
    if count == 1 or "MIG-" in os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        return ok("MIG", found)
    return warn(
        "MIG",
        f"CUDA uses only one of {count} instances: {found}",
        f"Set CUDA_VISIBLE_DEVICES={instance.uuid} if it is meant, or name another",
    )


def _others(site: SiteFile, memory: Memory) -> Check:
    """Check for other processes on the GPU; this site's own service does not count."""
    guard = read_if_whole(ServiceFolder(site).guard).get("process")
    ours = {os.getpid(), *([guard, *children(guard)] if guard else [])}
    remedy = (
        "Together they may run out of memory: end one, give each a GPU by `device`, or set "
        "policy.max_gpu_gib"
    )
    others = [process for process in memory.processes if process.id not in ours]
    if others:
        named = ", ".join(
            f"{process.id}" + (f" ({gib(process.memory)} GiB)" if process.memory else "")
            for process in others
        )
        return warn("GPU sharing", f"other processes use this GPU: {named}", remedy)
    # A container does not see the processes of another.
    hidden = not memory.processes and memory.used > MUCH_MEMORY
    if hidden and not _runs(guard):
        found = f"{gib(memory.used)} GiB are in use by processes that this one does not see"
        return warn("GPU sharing", found, remedy)
    return ok("GPU sharing", "no other process uses this GPU")


def _runs(process: int | None) -> bool:
    return process is not None and os.path.exists(f"/proc/{process}")
