"""Reasons why CUDA cannot use a GPU, with cause and remedy; CUDA's answer is never forced."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from client.training import cuda
from client.training.cuda import NO_LIBRARY, RESTART, Cuda, Fault, find_fault, main, start_cuda
from tests.client.nvml import FakeNvml, fails, pretend_cuda, pretend_files

FILES = ("nvidia0", "nvidiactl", "nvidia-uvm")
NO_DEVICE = ("no CUDA-capable device is detected", 100)


@pytest.fixture(autouse=True)
def _nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNvml:
    """A driver with a GPU that CUDA does not find."""
    pretend_files(monkeypatch, tmp_path / "dev", *FILES)
    pretend_cuda(monkeypatch, 0, *NO_DEVICE)
    return FakeNvml(monkeypatch)


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """Let the kernel refuse to open a device file."""
    opened = os.open

    def may(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).name == name:
            raise OSError(code, os.strerror(code), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(cuda.os, "open", may)


def fault_of(device: str = "cuda", torch_cuda: str | None = "12.6") -> Fault:
    fault = find_fault(device, torch_cuda)
    assert fault is not None
    assert "\n" not in str(fault)
    return fault


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0", "cuda:1"])
def test_a_gpu_that_cuda_can_use(fake: FakeNvml, device: str) -> None:
    pretend_cuda(fake.patch, 2)
    assert find_fault(device, "12.6") is None


def test_a_container_that_has_lost_its_gpu(fake: FakeNvml) -> None:
    """After `systemctl daemon-reload`: the files exist, but the cgroup lets nobody open them."""
    refuse(fake.patch, "nvidiactl", errno.EPERM)
    fake.answer(nvmlInit=fails(pynvml.NVML_ERROR_UNKNOWN))
    fault = fault_of()
    assert fault.kind == "lost"
    assert fault.cause.startswith("this container has lost ")
    assert fault.cause.endswith("dev/nvidiactl, as after `systemctl daemon-reload` on the host")
    assert fault.remedy == RESTART
    for word in ("Restart the container", "CDI", "--device", "native.cgroupdriver=cgroupfs"):
        assert word in fault.remedy


def test_files_that_open_but_a_driver_that_does_not_answer(fake: FakeNvml) -> None:
    fake.answer(nvmlInit=fails(pynvml.NVML_ERROR_UNKNOWN))
    assert fault_of() == Fault(
        "lost",
        "the driver is loaded, but CUDA is gone "
        "(NVML: Unknown Error; CUDA: no CUDA-capable device is detected)",
        RESTART,
    )


def test_a_driver_that_sees_the_gpu_that_cuda_does_not(fake: FakeNvml) -> None:
    fault = fault_of("auto")
    assert (fault.kind, fault.remedy) == ("lost", RESTART)
    assert "CUDA is gone (CUDA: no CUDA-capable device is detected)" in fault.cause


def test_a_file_that_this_user_may_not_open(fake: FakeNvml) -> None:
    refuse(fake.patch, "nvidia0", errno.EACCES)
    fault = fault_of()
    assert fault.cause.startswith("no permission for ")
    assert "group `video`" in fault.remedy


def test_a_file_that_is_missing(fake: FakeNvml) -> None:
    (cuda.DEVICES / "nvidia-uvm").unlink()
    fault = fault_of()
    assert fault.cause.endswith("dev/nvidia-uvm does not exist")
    assert "nvidia-modprobe -u -c 0" in fault.remedy


@pytest.mark.parametrize(("nvml", "error"), [(18, NO_DEVICE), (999, ("mismatch", 803))])
def test_a_driver_that_was_updated(fake: FakeNvml, nvml: int, error: tuple[str, int]) -> None:
    fake.answer(nvmlInit=fails(nvml))
    pretend_cuda(fake.patch, 0, *error)
    fault = fault_of()
    assert "differ in version" in fault.cause
    assert fault.remedy.startswith("Restart the machine")


def test_a_gpu_that_fell_off_the_bus(fake: FakeNvml) -> None:
    fake.answer(nvmlDeviceGetHandleByIndex=fails(pynvml.NVML_ERROR_GPU_IS_LOST))
    fault = fault_of()
    assert fault.cause == "the GPU has failed (GPU 0: GPU is lost)"
    assert "Xid" in fault.remedy


def test_a_container_without_the_drivers_libraries(fake: FakeNvml) -> None:
    fake.answer(nvmlInit=fails(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    pretend_cuda(fake.patch, 0, NO_LIBRARY)
    fault = fault_of()
    assert "libcuda.so.1 is missing" in fault.cause
    assert "NVIDIA_DRIVER_CAPABILITIES" in fault.remedy


def test_mig_without_an_instance(fake: FakeNvml) -> None:
    fake.mig(0)
    fault = fault_of()
    assert fault.cause == "MIG is on, and no instance can be used"
    assert "nvidia-smi mig -cgi" in fault.remedy


def test_gpus_that_a_variable_hides(fake: FakeNvml) -> None:
    fake.patch.setenv("CUDA_VISIBLE_DEVICES", "")
    fault = fault_of("auto")
    assert fault.kind == "unused"
    assert fault.cause == "CUDA_VISIBLE_DEVICES= leaves CUDA none of 1 GPUs"


@pytest.mark.parametrize(
    ("device", "torch_cuda", "kind", "cause"),
    [
        ("auto", None, "unused", "torch is built without CUDA, 1 GPUs stay unused"),
        ("cuda", "13.0", "unused", "torch needs CUDA 13.0, the driver supports 12.8"),
        ("cuda:1", "12.6", "number", "CUDA finds 1 GPUs, none for cuda:1"),
    ],
)
def test_gpus_that_torch_cannot_use(
    fake: FakeNvml, device: str, torch_cuda: str | None, kind: str, cause: str
) -> None:
    pretend_cuda(fake.patch, 1)
    fault = fault_of(device, torch_cuda)
    assert (fault.kind, fault.cause) == (kind, cause)
    assert fault.remedy


def test_no_driver(fake: FakeNvml, tmp_path: Path) -> None:
    fake.patch.setattr(cuda, "DEVICES", tmp_path)
    fake.answer(nvmlInit=fails(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    pretend_cuda(fake.patch, 0, NO_LIBRARY)
    assert fault_of("auto").kind == "absent"


def library(init: int, gpus: int) -> SimpleNamespace:
    """A libcuda that has nothing to make a context with."""

    def put(pointer: Any, value: Any) -> int:
        pointer._obj.value = value
        return 0

    texts = {100: b"no CUDA-capable device is detected"}
    return SimpleNamespace(
        cuInit=lambda flags: init,
        cuDriverGetVersion=lambda number: put(number, 12080),
        cuDeviceGetCount=lambda number: put(number, gpus),
        cuGetErrorString=lambda code, text: put(text, texts.get(code)),
    )


@pytest.mark.parametrize(
    ("init", "gpus", "expected"),
    [
        (0, 2, Cuda((12, 8), 2)),
        (100, 0, Cuda((12, 8), 0, "no CUDA-capable device is detected", 100)),
        (999, 0, Cuda((12, 8), 0, "error 999", 999)),
    ],
)
def test_cuda_is_started_without_a_context(
    monkeypatch: pytest.MonkeyPatch, init: int, gpus: int, expected: Cuda
) -> None:
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: library(init, gpus))
    assert start_cuda() == expected


def test_a_machine_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> SimpleNamespace:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", missing)
    assert start_cuda() == Cuda(error=NO_LIBRARY)


def test_the_program_prints_a_line(fake: FakeNvml, capsys: pytest.CaptureFixture[str]) -> None:
    main("cuda", "12.6")
    assert Fault(**json.loads(capsys.readouterr().out)).kind == "lost"
    pretend_cuda(fake.patch, 1)
    main("cuda", "12.6")
    assert json.loads(capsys.readouterr().out) is None


@pytest.fixture
def program() -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        command = [sys.executable, "-I", "-m", "client.training.cuda", *arguments]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    return run


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_program_on_this_machine(program: Callable[..., Any]) -> None:
    assert program("auto", "12.6") is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_program_on_this_machines_gpu(program: Callable[..., Any]) -> None:
    assert program("cuda", torch.version.cuda) is None
    assert program("cuda:99", torch.version.cuda)["kind"] == "number"
