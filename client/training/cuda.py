"""Diagnosis of a GPU that CUDA cannot use: the cause and its remedy.

Run as a program it diagnoses for a process that must not, or can no longer, ask CUDA itself: one
without a CUDA context stays without, and in one that has used CUDA the first answer stands.

python -I -m client.training.cuda DEVICE [TORCH_CUDA]
"""

import ctypes
import errno
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from client.training.nvml import Driver, read_driver

DEVICES = Path("/dev")
CUDA_MISMATCH = 803  # CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
# NVML_ERROR_LIB_RM_VERSION_MISMATCH, NVML_ERROR_GPU_IS_LOST and NVML_ERROR_RESET_REQUIRED
NVML_MISMATCH, NVML_BROKEN = 18, (15, 16)
NO_LIBRARY = "libcuda.so.1 not found"
# NVIDIA container toolkit, troubleshooting: "Failed to initialize NVML: Unknown Error".
RESTART = (
    "Restart the container (without one, the machine); to prevent it, use CDI, "
    "`--device /dev/nvidia...` or native.cgroupdriver=cgroupfs (docs/site.md)"
)


@dataclass(frozen=True)
class Fault:
    """The reason that CUDA cannot use a GPU, and what to do.

    Kinds: no driver (`absent`); GPUs hidden by CUDA_VISIBLE_DEVICES, or a torch that cannot use
    them (`unused`); no GPU of the configured number (`number`); a driver with a GPU that CUDA
    cannot use (`lost`).
    """

    kind: Literal["absent", "unused", "number", "lost"]
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}. {self.remedy}"


@dataclass(frozen=True)
class Cuda:
    """CUDA's driver interface in this process: version, GPUs that it can use, and its error."""

    version: tuple[int, int] = (0, 0)
    gpus: int = 0
    error: str = ""
    code: int = 0


def start_cuda() -> Cuda:
    """Initialise CUDA's driver interface without a context, and so without memory on a GPU."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Cuda(error=NO_LIBRARY)
    number = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(number))
    version = number.value // 1000, number.value % 1000 // 10
    number = ctypes.c_int(0)
    code = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(number))
    if not code:
        return Cuda(version, number.value)
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return Cuda(version, 0, (text.value or b"").decode() or f"error {code}", code)


def find_fault(device: str, torch_cuda: str | None) -> Fault | None:
    """Return the reason that CUDA cannot use a GPU in this process, None if it can.

    Args:
        device: the site file's device; auto means the first GPU.
        torch_cuda: version of CUDA that torch is built for, None if it is built without.
    """
    cuda = start_cuda()
    number = int(device.partition(":")[2] or 0)
    if cuda.gpus:
        return _unsuited(cuda, device, number, torch_cuda)
    driver = read_driver()
    if driver is None and not (DEVICES / "nvidiactl").exists():
        return Fault(
            "absent",
            "no NVIDIA driver is found",
            "Check the driver, start the container with the GPU, or set `device: cpu`",
        )
    return _blocked_file() or _lost(driver or Driver(), cuda)


def _unsuited(cuda: Cuda, device: str, number: int, torch_cuda: str | None) -> Fault | None:
    """Return the reason that torch cannot use the GPUs that CUDA offers."""
    if torch_cuda is None:
        return Fault(
            "unused",
            f"torch is built without CUDA, {cuda.gpus} GPUs stay unused",
            "Install torch for CUDA (https://pytorch.org), or set `device: cpu`",
        )
    if cuda.version[0] < int(torch_cuda.partition(".")[0]):
        return Fault(
            "unused",
            f"torch needs CUDA {torch_cuda}, the driver supports {_text(cuda.version)}",
            "Update the driver, or install torch for an older CUDA",
        )
    if number >= cuda.gpus:
        return Fault(
            "number",
            f"CUDA finds {cuda.gpus} GPUs, none for {device}",
            "Correct `device`, or start the container with this GPU",
        )
    return None


def _blocked_file() -> Fault | None:
    """Return the reason that a device file of the driver cannot be opened."""
    files = [DEVICES / "nvidiactl", DEVICES / "nvidia-uvm", *sorted(DEVICES.glob("nvidia[0-9]*"))]
    for path in files:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EPERM:  # by the cgroup; file permissions give EACCES
                return Fault(
                    "lost",
                    f"this container has lost {path}, as after `systemctl daemon-reload` on the "
                    "host",
                    RESTART,
                )
            if error.errno == errno.EACCES:
                return Fault(
                    "lost",
                    f"no permission for {path}",
                    "Give this user read and write permission (often by the group `video`)",
                )
            if error.errno == errno.ENOENT and path.name == "nvidia-uvm" and files[0].exists():
                return Fault(
                    "lost",
                    f"the driver is loaded, but {path} does not exist",
                    "Run `nvidia-modprobe -u -c 0` on the host, then restart the container",
                )
    return None


def _lost(driver: Driver, cuda: Cuda) -> Fault:
    """Return the reason that CUDA finds none of the driver's GPUs."""
    if driver.code == NVML_MISMATCH or cuda.code == CUDA_MISMATCH:
        return Fault(
            "lost",
            "the driver's libraries and its kernel module differ in version, as after an update",
            "Restart the machine, then the container",
        )
    if driver.code in NVML_BROKEN and not driver.gpus:
        return Fault(
            "lost",
            f"the GPU has failed ({driver.error})",
            "Restart the machine; have the GPU exchanged if the kernel's log shows more Xid errors",
        )
    if cuda.error == NO_LIBRARY:
        return Fault(
            "lost",
            "the driver is loaded, but its library libcuda.so.1 is missing here",
            "Start the container with `--gpus all` and NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
    if driver.gpus and all(gpu.mig and not gpu.instances for gpu in driver.gpus):
        return Fault(
            "lost",
            "MIG is on, and no instance can be used",
            "Create one by `nvidia-smi mig -cgi PROFILE -C`, or give one to the container",
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver.gpus and hidden is not None:
        return Fault(
            "unused",
            f"CUDA_VISIBLE_DEVICES={hidden} leaves CUDA none of {len(driver.gpus)} GPUs",
            "Correct or unset it, or set `device: cpu`",
        )
    found = {"NVML": driver.error, "CUDA": cuda.error}
    errors = "; ".join(f"{name}: {error}" for name, error in found.items() if error)
    return Fault("lost", f"the driver is loaded, but CUDA is gone ({errors})", RESTART)


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def main(device: str, torch_cuda: str | None = None) -> None:
    """Print the fault as one line of JSON, null if there is none."""
    fault = find_fault(device, torch_cuda)
    print(json.dumps(fault and asdict(fault)))


if __name__ == "__main__":
    main(*sys.argv[1:])
