"""View of NVIDIA's GPUs through the driver's management library (NVML), without a CUDA context."""

from dataclasses import dataclass
from typing import Any

try:
    import pynvml
except ImportError:  # an installation from before this dependency
    pynvml = None


@dataclass(frozen=True)
class Process:
    """A process with memory on a GPU, in bytes; None if the driver does not report it."""

    id: int
    memory: int | None


@dataclass(frozen=True)
class Memory:
    """Memory of a GPU or of a MIG instance in bytes, and the processes that use it.

    `used` excludes the driver's own reserve where the driver distinguishes them.
    """

    total: int
    used: int
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class Instance:
    """A MIG instance: a part of a GPU that CUDA treats as a device."""

    uuid: str
    name: str
    gpu_instance: int | None
    compute_instance: int | None
    memory: Memory | None


@dataclass(frozen=True)
class Gpu:
    """A GPU; None for each property that its driver does not report.

    Attributes:
        uuid: such as GPU-5c9a....
        name: product name.
        memory: memory of the whole GPU.
        capability: CUDA compute capability.
        ecc: whether error correction is on.
        uncorrected: uncorrected memory errors since the driver was loaded.
        uncorrected_ever: uncorrected memory errors in the GPU's life.
        retired: pages retired after an uncorrected error (before Ampere).
        remap_pending: whether a page retirement or row remapping waits for a reset.
        remap_failed: whether a row could not be remapped (from Ampere on).
        mig: whether MIG mode is on.
        instances: the MIG instances that this process may use.
    """

    uuid: str
    name: str
    memory: Memory | None
    capability: tuple[int, int] | None
    ecc: bool | None
    uncorrected: int | None
    uncorrected_ever: int | None
    retired: int | None
    remap_pending: bool
    remap_failed: bool
    mig: bool | None
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Driver:
    """The loaded driver and its GPUs; `error` and `code` are NVML's, of the driver or of a GPU."""

    version: str | None = None
    cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    error: str = ""
    code: int = 0


def read_driver() -> Driver | None:
    """Return the driver and the GPUs that this process may see, None without library or driver.

    NVML is initialised anew for each call, because device files that a process has already opened
    stay usable when its container has lost them.
    """
    if pynvml is None:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        if error.value in absent:
            return None
        return Driver(error=str(error).rstrip("."), code=error.value)
    try:
        return _driver()
    finally:
        _query("nvmlShutdown")


def _driver() -> Driver:
    gpus, error, code = [], "", 0
    for index in range(_query("nvmlDeviceGetCount") or 0):
        try:
            gpus.append(_gpu(pynvml.nvmlDeviceGetHandleByIndex(index)))
        except pynvml.NVMLError as failed:
            error, code = f"GPU {index}: {failed}", failed.value
    cuda = _query("nvmlSystemGetCudaDriverVersion_v2")
    return Driver(
        version=_query("nvmlSystemGetDriverVersion"),
        cuda=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
        gpus=tuple(gpus),
        error=error,
        code=code,
    )


def _gpu(handle: Any) -> Gpu:
    ecc = _query("nvmlDeviceGetEccMode", handle)
    rows = _query("nvmlDeviceGetRemappedRows", handle) or (0, 0, 0, 0)
    mig = _query("nvmlDeviceGetMigMode", handle)
    pages = _query(
        "nvmlDeviceGetRetiredPages",
        handle,
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    return Gpu(
        uuid=_query("nvmlDeviceGetUUID", handle) or "",
        name=_query("nvmlDeviceGetName", handle) or "GPU",
        memory=_memory(handle),
        capability=_query("nvmlDeviceGetCudaComputeCapability", handle),
        ecc=None if ecc is None else bool(ecc[0]),
        uncorrected=_uncorrected(handle, pynvml.NVML_VOLATILE_ECC),
        uncorrected_ever=_uncorrected(handle, pynvml.NVML_AGGREGATE_ECC),
        retired=None if pages is None else len(pages),
        remap_pending=bool(rows[2] or _query("nvmlDeviceGetRetiredPagesPendingStatus", handle)),
        remap_failed=bool(rows[3]),
        mig=None if mig is None else bool(mig[0]),
        instances=tuple(_instances(handle)) if mig and mig[0] else (),
    )


def _instances(handle: Any) -> list[Instance]:
    found = []
    for index in range(_query("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        instance = _query("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if instance is not None:  # an index without an instance, or with another container's
            found.append(
                Instance(
                    uuid=_query("nvmlDeviceGetUUID", instance) or "",
                    name=_query("nvmlDeviceGetName", instance) or "MIG instance",
                    gpu_instance=_query("nvmlDeviceGetGpuInstanceId", instance),
                    compute_instance=_query("nvmlDeviceGetComputeInstanceId", instance),
                    memory=_memory(instance),
                )
            )
    return found


def _memory(handle: Any) -> Memory | None:
    # The first version counts the driver's reserve as used.
    size = _query("nvmlDeviceGetMemoryInfo", handle, pynvml.nvmlMemory_v2)
    size = size or _query("nvmlDeviceGetMemoryInfo", handle)
    if size is None:
        return None
    using = {}
    for kind in ("Compute", "Graphics"):
        for process in _query(f"nvmlDeviceGet{kind}RunningProcesses", handle) or []:
            using[process.pid] = Process(process.pid, process.usedGpuMemory)
    return Memory(size.total, size.used, tuple(using.values()))


def _uncorrected(handle: Any, counter: int) -> int | None:
    kind = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    return _query("nvmlDeviceGetTotalEccErrors", handle, kind, counter)


def _query(name: str, *arguments: Any) -> Any:
    """Return a query's answer, None where GPU or driver does not support it."""
    try:
        return getattr(pynvml, name)(*arguments)
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
        return None
