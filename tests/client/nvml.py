"""A pretended NVML, with the library's own structures and errors, and a pretended CUDA."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from client.training import cuda
from client.training.cuda import Cuda

GIB = 2**30
NAME = "NVIDIA H100 80GB HBM3"
UUID = "5c9a8e1c-29c7-6a4f-3c3c-9d0a2f5b7e11"
INSTANCES = ("1dd3c4a2-6a3b-5f57-b5d2-0a3a7c1f1f01", "1dd3c4a2-6a3b-5f57-b5d2-0a3a7c1f1f02")


def memory(total: float, used: float) -> Any:
    """Structure that nvmlDeviceGetMemoryInfo_v2 fills in, from GiB."""
    made = pynvml.c_nvmlMemory_v2_t()
    made.version = pynvml.nvmlMemory_v2
    made.total, made.used = int(total * GIB), int(used * GIB)
    made.reserved = int(0.5 * GIB)
    made.free = made.total - made.used - made.reserved
    return made


def process(number: int, gib: float | None = None) -> Any:
    """Structure of which nvmlDeviceGetComputeRunningProcesses_v3 lists one a process."""
    made = pynvml.c_nvmlProcessInfo_v3_t()
    made.pid = number
    made.usedGpuMemory = (
        pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value if gib is None else int(gib * GIB)
    )
    found = pynvml.nvmlStructToFriendlyObject(made)
    if gib is None:
        found.usedGpuMemory = None  # as the library itself does
    return found


def fails(code: int) -> Callable[..., Any]:
    """A query that ends with this code of NVML's."""

    def query(*_: object) -> Any:
        raise pynvml.NVMLError(code)

    return query


class FakeNvml:
    """NVML with one H100, ECC on and MIG off; `answer` changes what a query says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.patch = monkeypatch
        self.open = 0
        for name in dir(pynvml):  # whatever is not answered below would need a driver
            if name.startswith(("nvmlDeviceGet", "nvmlSystemGet")):
                monkeypatch.setattr(pynvml, name, fails(pynvml.NVML_ERROR_NOT_SUPPORTED))
        monkeypatch.setattr(pynvml, "nvmlInit", self._init)
        monkeypatch.setattr(pynvml, "nvmlShutdown", self._shutdown)
        errors = {pynvml.NVML_VOLATILE_ECC: 0, pynvml.NVML_AGGREGATE_ECC: 0}
        self.answer(
            nvmlSystemGetDriverVersion="570.133.20",
            nvmlSystemGetCudaDriverVersion_v2=12080,
            nvmlDeviceGetCount=1,
            nvmlDeviceGetHandleByIndex=pynvml.c_nvmlDevice_t(),
            nvmlDeviceGetUUID=f"GPU-{UUID}",
            nvmlDeviceGetName=NAME,
            nvmlDeviceGetMemoryInfo=lambda handle, version=None: memory(79.6, 0.1),
            nvmlDeviceGetCudaComputeCapability=(9, 0),
            nvmlDeviceGetEccMode=[1, 1],
            nvmlDeviceGetTotalEccErrors=lambda handle, kind, counter: errors[counter],
            nvmlDeviceGetRemappedRows=(0, 0, 0, 0),
            nvmlDeviceGetMigMode=[0, 0],
            nvmlDeviceGetComputeRunningProcesses=[],
            nvmlDeviceGetGraphicsRunningProcesses=[],
        )

    def answer(self, **answers: Any) -> None:
        for name, value in answers.items():
            query = value if callable(value) else lambda *_, value=value: value
            self.patch.setattr(pynvml, name, query)

    def mig(self, instances: int) -> None:
        """Turn MIG on, with up to two instances of 1g.10gb, whose handles are 0 and 1 here."""

        def handle(_: Any, index: int) -> int:
            if index >= instances:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
            return index

        def of_either(whole: Any, part: Callable[[int], Any]) -> Callable[..., Any]:
            return lambda handle, *_: part(handle) if isinstance(handle, int) else whole

        self.answer(
            nvmlDeviceGetMigMode=[1, 1],
            nvmlDeviceGetMaxMigDeviceCount=7,
            nvmlDeviceGetMigDeviceHandleByIndex=handle,
            nvmlDeviceGetUUID=of_either(f"GPU-{UUID}", lambda n: f"MIG-{INSTANCES[n]}"),
            nvmlDeviceGetName=of_either(NAME, lambda n: f"{NAME} MIG 1g.10gb"),
            nvmlDeviceGetMemoryInfo=of_either(memory(79.6, 0.1), lambda n: memory(9.75, 0.01)),
            nvmlDeviceGetGpuInstanceId=lambda n: 7 + n,
            nvmlDeviceGetComputeInstanceId=0,
        )

    def _init(self) -> None:
        self.open += 1

    def _shutdown(self) -> None:
        self.open -= 1


def pretend_files(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Let the device files be these, in a folder."""
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    monkeypatch.setattr(cuda, "DEVICES", folder)


def pretend_cuda(
    monkeypatch: pytest.MonkeyPatch, gpus: int, error: str = "", code: int = 0
) -> None:
    """Let CUDA 12.8 find so many GPUs."""
    monkeypatch.setattr(cuda, "start_cuda", lambda: Cuda((12, 8), gpus, error, code))
