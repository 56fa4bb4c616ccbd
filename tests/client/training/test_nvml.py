"""Driver's view of the GPUs: an unreported figure is None, and a missing driver no error."""

import pynvml
import pytest
import torch

from client.training import nvml
from client.training.nvml import Driver, Process, read_driver
from tests.client.nvml import GIB, UUID, FakeNvml, fails, process


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    return FakeNvml(monkeypatch)


def test_a_gpu_is_described(fake: FakeNvml) -> None:
    driver = read_driver()
    assert driver is not None
    assert (driver.version, driver.cuda, driver.error) == ("570.133.20", (12, 8), "")
    (gpu,) = driver.gpus
    assert (gpu.uuid, gpu.name, gpu.capability) == (f"GPU-{UUID}", "NVIDIA H100 80GB HBM3", (9, 0))
    assert gpu.memory is not None
    assert gpu.memory.total == pytest.approx(79.6 * GIB, abs=1)
    assert gpu.memory.used == pytest.approx(0.1 * GIB, abs=1)  # without the driver's reserve
    assert (gpu.ecc, gpu.uncorrected, gpu.uncorrected_ever, gpu.retired) == (True, 0, 0, None)
    assert (gpu.remap_pending, gpu.remap_failed, gpu.mig, gpu.instances) == (
        False,
        False,
        False,
        (),
    )
    assert fake.open == 0


def test_a_driver_that_reports_nothing(fake: FakeNvml) -> None:
    for name in dir(pynvml):
        if name.startswith(("nvmlDeviceGet", "nvmlSystemGet")):
            fake.answer(**{name: fails(pynvml.NVML_ERROR_NOT_SUPPORTED)})
    fake.answer(nvmlDeviceGetCount=1, nvmlDeviceGetHandleByIndex=pynvml.c_nvmlDevice_t())
    driver = read_driver()
    assert driver is not None
    (gpu,) = driver.gpus
    assert (gpu.uuid, gpu.name, gpu.memory, gpu.ecc, gpu.mig) == ("", "GPU", None, None, None)
    assert not gpu.remap_pending


def test_an_older_driver_has_the_first_version_of_memory(fake: FakeNvml) -> None:
    def first_only(handle: object, version: int | None = None) -> object:
        if version:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        made = pynvml.c_nvmlMemory_t()
        made.total, made.used = 16 * GIB, GIB
        return made

    fake.answer(nvmlDeviceGetMemoryInfo=first_only)
    driver = read_driver()
    assert driver is not None
    assert driver.gpus[0].memory == nvml.Memory(16 * GIB, GIB)


def test_processes(fake: FakeNvml) -> None:
    fake.answer(
        nvmlDeviceGetComputeRunningProcesses=[process(7, 2), process(8)],
        nvmlDeviceGetGraphicsRunningProcesses=[process(9, 0.5)],
    )
    driver = read_driver()
    assert driver is not None
    assert driver.gpus[0].memory is not None
    found = driver.gpus[0].memory.processes
    assert found == (Process(7, 2 * GIB), Process(8, None), Process(9, GIB // 2))


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED]
)
def test_no_driver(fake: FakeNvml, code: int) -> None:
    fake.answer(nvmlInit=fails(code))
    assert read_driver() is None


def test_no_library_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "pynvml", None)
    assert read_driver() is None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
        (
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            "RM has detected an NVML/RM version mismatch",
        ),
    ],
)
def test_a_driver_that_cannot_be_asked(fake: FakeNvml, code: int, text: str) -> None:
    fake.answer(nvmlInit=fails(code))
    assert read_driver() == Driver(error=text, code=code)


def test_a_gpu_that_is_lost(fake: FakeNvml) -> None:
    fake.answer(nvmlDeviceGetHandleByIndex=fails(pynvml.NVML_ERROR_GPU_IS_LOST))
    driver = read_driver()
    assert driver is not None
    assert (driver.gpus, driver.error, driver.code) == ((), "GPU 0: GPU is lost", 15)
    assert fake.open == 0


def test_instances(fake: FakeNvml) -> None:
    fake.mig(2)
    driver = read_driver()
    assert driver is not None
    first, second = driver.gpus[0].instances
    assert (first.gpu_instance, second.gpu_instance, second.compute_instance) == (7, 8, 0)
    assert first.name == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert first.memory is not None
    assert first.memory.total == int(9.75 * GIB)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_this_machines_gpu() -> None:
    driver = read_driver()
    assert driver is not None
    assert driver.error == ""
    properties = torch.cuda.get_device_properties(0)
    gpus = {gpu.uuid.removeprefix("GPU-"): gpu for gpu in driver.gpus}
    gpu = gpus.get(str(properties.uuid), driver.gpus[0])
    assert gpu.capability == (properties.major, properties.minor)
