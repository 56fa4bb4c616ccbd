"""`mama-site check` on a GPU: the driver's report, defects with remedies, and a lost GPU."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
import torch

from client.preflight import gpu as checks
from client.preflight.check import Check
from client.preflight.gpu import check_device, check_gpu
from client.service.status import ServiceFolder
from client.site.config import load_site
from client.training import cuda
from client.training.cuda import NO_LIBRARY, RESTART
from client.training.nvml import read_driver
from mama.system.sealed import write_sealed
from tests.client.nvml import (
    INSTANCES,
    UUID,
    FakeNvml,
    fails,
    memory,
    pretend_cuda,
    pretend_files,
    process,
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    return FakeNvml(monkeypatch)


@pytest.fixture
def found(fake: FakeNvml, site_file: Path) -> Callable[..., dict[str, Check]]:
    """The checks of the pretended GPU, by name."""

    def check(uuid: str = UUID) -> dict[str, Check]:
        driver = read_driver()
        assert driver is not None
        return by_name(check_gpu(load_site(site_file), driver, uuid))

    return check


def by_name(found: Iterator[Check]) -> dict[str, Check]:
    named = {check.name: check for check in found}
    for check in named.values():
        assert "\n" not in str(check)
        assert bool(check.remedy) == (check.verdict != "PASS")
    return named


def test_a_sound_gpu(found: Callable[..., dict[str, Check]]) -> None:
    assert [str(check) for check in found().values()] == [
        "PASS  driver: NVIDIA 570.133.20, up to CUDA 12.8, torch built for CUDA 12.6, "
        "compute capability 9.0",
        "PASS  ECC: on, no uncorrected error",
        "PASS  MIG: off, the whole GPU is one device",
        "PASS  GPU sharing: no other process uses this GPU",
    ]


def test_what_a_driver_does_not_report_is_left_out(
    fake: FakeNvml, found: Callable[..., dict[str, Check]]
) -> None:
    for name in ("EccMode", "TotalEccErrors", "RemappedRows", "MigMode", "MemoryInfo"):
        fake.answer(**{f"nvmlDeviceGet{name}": fails(pynvml.NVML_ERROR_NOT_SUPPORTED)})
    assert found().keys() == {"driver"}


@pytest.mark.parametrize(
    ("volatile", "aggregate", "message"),
    [
        (0, 0, ""),
        (2, 5, "2 since the driver was loaded, 5 in the GPU's life"),
        (0, 3, "3 in the GPU's life"),
    ],
)
def test_uncorrected_errors(
    fake: FakeNvml,
    found: Callable[..., dict[str, Check]],
    volatile: int,
    aggregate: int,
    message: str,
) -> None:
    counts = {pynvml.NVML_VOLATILE_ECC: volatile, pynvml.NVML_AGGREGATE_ECC: aggregate}

    def errors(handle: object, kind: int, counter: int) -> int:
        assert kind == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        return counts[counter]

    fake.answer(nvmlDeviceGetTotalEccErrors=errors)
    check = found()["ECC"]
    assert check.verdict == ("WARN" if message else "PASS")
    assert message in check.found


def test_a_gpu_without_ecc(fake: FakeNvml, found: Callable[..., dict[str, Check]]) -> None:
    fake.answer(nvmlDeviceGetEccMode=[0, 0])
    assert found()["ECC"].found == "off"


@pytest.mark.parametrize(
    ("answers", "message", "remedy"),
    [
        ({"nvmlDeviceGetRemappedRows": (0, 1, 1, 0)}, "next reset", "nvidia-smi --gpu-reset"),
        ({"nvmlDeviceGetRetiredPagesPendingStatus": 1}, "next reset", "restart the machine"),
        ({"nvmlDeviceGetRemappedRows": (0, 1, 0, 1)}, "could not be replaced", "exchanged"),
    ],
)
def test_rows_and_pages_to_replace(
    fake: FakeNvml,
    found: Callable[..., dict[str, Check]],
    answers: dict[str, Any],
    message: str,
    remedy: str,
) -> None:
    assert "GPU memory" not in found()
    fake.answer(**answers)
    check = found()["GPU memory"]
    assert check.verdict == "WARN"
    assert message in check.found
    assert remedy in check.remedy


def test_retired_pages(fake: FakeNvml, found: Callable[..., dict[str, Check]]) -> None:
    fake.answer(nvmlDeviceGetRetiredPages=[0x1A2B000, 0x1A2C000])
    check = found()["ECC"]
    assert (check.verdict, check.found) == (
        "WARN",
        "2 memory pages retired after uncorrected errors",
    )


def test_the_only_mig_instance(fake: FakeNvml, found: Callable[..., dict[str, Check]]) -> None:
    fake.mig(1)
    check = found(INSTANCES[0])["MIG"]
    assert (check.verdict, check.found) == (
        "PASS",
        "instance NVIDIA H100 80GB HBM3 MIG 1g.10gb, 9.8 GiB of 79.6 "
        "(GPU instance 7, compute instance 0)",
    )


def test_several_mig_instances(fake: FakeNvml, found: Callable[..., dict[str, Check]]) -> None:
    fake.mig(2)
    check = found(INSTANCES[1])["MIG"]
    assert check.verdict == "WARN"
    assert "only one of 2 instances" in check.found
    assert f"CUDA_VISIBLE_DEVICES=MIG-{INSTANCES[1]}" in check.remedy
    fake.patch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{INSTANCES[1]}")
    assert found(INSTANCES[1])["MIG"].verdict == "PASS"
    checked = found("an identifier of an older CUDA")
    assert (checked["MIG"].verdict, "GPU sharing" in checked) == ("WARN", False)
    assert "unknown which" in checked["MIG"].found


def test_other_processes(
    fake: FakeNvml, found: Callable[..., dict[str, Check]], site_file: Path
) -> None:
    fake.answer(nvmlDeviceGetComputeRunningProcesses=[process(os.getpid(), 1)])
    assert found()["GPU sharing"].verdict == "PASS"
    listed = [process(4_200_000, 20), process(4_200_001)]
    fake.answer(nvmlDeviceGetComputeRunningProcesses=listed)
    check = found()["GPU sharing"]
    assert (check.verdict, check.found) == (
        "WARN",
        "other processes use this GPU: 4200000 (20.0 GiB), 4200001",
    )
    assert "policy.max_gpu_gib" in check.remedy
    folder = ServiceFolder(load_site(site_file))
    folder.make()
    write_sealed(folder.guard, {"process": 4_200_000})  # this site's own service
    assert found()["GPU sharing"].found == "other processes use this GPU: 4200001"


def test_processes_of_other_containers(
    fake: FakeNvml, found: Callable[..., dict[str, Check]], site_file: Path
) -> None:
    fake.answer(nvmlDeviceGetMemoryInfo=lambda handle, version=None: memory(79.6, 30))
    check = found()["GPU sharing"]
    assert (check.verdict, check.found) == (
        "WARN",
        "30.0 GiB are in use by processes that this one does not see",
    )
    folder = ServiceFolder(load_site(site_file))
    folder.make()
    write_sealed(folder.guard, {"process": os.getpid()})
    assert found()["GPU sharing"].verdict == "PASS"  # most likely the site's own service


def test_the_right_one_of_two_gpus(fake: FakeNvml, found: Callable[..., dict[str, Check]]) -> None:
    uuids = iter(["GPU-another", f"GPU-{UUID}"] * 2)
    capabilities = iter([(7, 5), (9, 0)] * 2)
    fake.answer(
        nvmlDeviceGetCount=2,
        nvmlDeviceGetUUID=lambda handle: next(uuids),
        nvmlDeviceGetCudaComputeCapability=lambda handle: next(capabilities),
    )
    assert "compute capability 9.0" in found()["driver"].found
    assert found("neither") == {}


def test_a_gpu_beside_that_has_failed(fake: FakeNvml, site_file: Path) -> None:
    def handle(index: int) -> object:
        if index:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return pynvml.c_nvmlDevice_t()

    fake.answer(nvmlDeviceGetCount=2, nvmlDeviceGetHandleByIndex=handle)
    driver = read_driver()
    assert driver is not None
    first, *_ = check_gpu(load_site(site_file), driver, UUID)
    assert str(first) == (
        "WARN  driver: NVML: GPU 1: GPU is lost. See `nvidia-smi` and the kernel's log"
    )


# A GPU that CUDA cannot use


@pytest.fixture
def device(
    fake: FakeNvml, edit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], Check]:
    """The check of a device on a machine whose driver has a GPU that torch does not find."""
    pretend_files(monkeypatch, tmp_path / "dev", "nvidia0", "nvidiactl", "nvidia-uvm")
    pretend_cuda(monkeypatch, 0, "no CUDA-capable device is detected", 100)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def check(name: str) -> Check:
        return by_name(check_device(load_site(edit(device=name))))["device"]

    return check


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_cuda_is_gone_while_the_driver_is_there(
    device: Callable[[str], Check], fake: FakeNvml, name: str
) -> None:
    check = device(name)
    assert (check.verdict, check.remedy) == ("FAIL", RESTART)
    assert "cannot use the GPU: the driver is loaded, but CUDA is gone" in check.found
    fake.answer(nvmlInit=fails(pynvml.NVML_ERROR_UNKNOWN))
    opened = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("nvidiactl"):
            raise OSError(errno.EPERM, "Operation not permitted")
        return opened(path, *arguments, **options)

    fake.patch.setattr(os, "open", refuse)
    check = device(name)
    assert check.verdict == "FAIL"
    assert "as after `systemctl daemon-reload` on the host" in check.found


def test_a_driver_that_works_and_a_torch_that_does_not(
    device: Callable[[str], Check], fake: FakeNvml
) -> None:
    pretend_cuda(fake.patch, 1)
    assert "torch cannot start it" in device("auto").found
    fake.patch.setattr(torch.version, "cuda", None)
    assert (device("auto").verdict, device("cuda").verdict) == ("WARN", "FAIL")
    assert "torch is built without CUDA" in device("auto").found


def test_without_a_driver_all_is_as_before(device: Callable[[str], Check], fake: FakeNvml) -> None:
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (cuda.DEVICES / name).unlink()
    fake.answer(nvmlInit=fails(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    pretend_cuda(fake.patch, 0, NO_LIBRARY)
    assert str(device("auto")).endswith("finds no GPU. Training on a CPU is slow; check the driver")
    assert str(device("cuda:1")).endswith("finds no cuda:1. Correct `device`, or check the driver")


def test_a_site_on_the_cpu_does_not_look(
    device: Callable[[str], Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "read_driver", lambda: pytest.fail("was called"))
    assert device("cpu").verdict == "PASS"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_this_machines_gpu(edit: Callable[..., Path]) -> None:
    found = by_name(check_device(load_site(edit(device="cuda"))))
    assert found["device"].verdict == found["driver"].verdict == "PASS"
