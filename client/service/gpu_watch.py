"""Watch for the GPU of a site that waits for tasks."""

import json
import subprocess
import sys

import torch

from client.training.cuda import Fault
from mama.system.processes import die_with_parent

# Initialising all GPUs of a machine without persistence mode takes seconds.
PATIENCE_S = 20.0
NO_ANSWER = "the driver does not answer. Check it by `nvidia-smi`, and restart the machine"


class GpuWatch:
    """Repeated check that the configured GPU can be used, by a short child process.

    The child needs no CUDA context, about half a GiB of the GPU, and opens the device files anew: a
    process that has opened them does not notice that its container has lost them.

    Args:
        expected: whether an earlier process of this service has found a GPU.

    Attributes:
        expected: whether the site counts on a GPU. With `device: auto` it does once one was found.
        returned: whether the GPU was gone and can be used again.
    """

    def __init__(self, *, expected: bool = False):
        self.expected = expected
        self.returned = False
        self._settled = self._gone = False
        self._child: subprocess.Popen[str] | None = None

    def look(self, device: str) -> str | None:
        """Return the reason that the site's GPU cannot be used, None if it can or none is expected.

        Args:
            device: the site file's device.
        """
        if device == "cpu" or torch.version.hip:  # NVIDIA's driver knows nothing of AMD's GPUs
            self.expected = False
            return None
        self.expected = self.expected or device != "auto"
        if self._settled and not self.expected:
            return None
        try:
            fault = self._ask(device)
        except (subprocess.TimeoutExpired, ValueError):
            # Not settled: a driver that is slow at the start may still have a GPU.
            return NO_ANSWER if self.expected else None
        self._settled = True
        if fault is None:
            self.expected, self.returned = True, self._gone
        self._gone = fault is not None and self.expected
        return str(fault) if fault and self.expected else None

    def _ask(self, device: str) -> Fault | None:
        """Return the child's diagnosis.

        Raises:
            subprocess.TimeoutExpired: it takes too long, or an earlier child is still running.
            ValueError: the child ended without a diagnosis.
        """
        if self._child is None or self._child.poll() is not None:
            arguments = [device, torch.version.cuda] if torch.version.cuda else [device]
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-m", "client.training.cuda", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                preexec_fn=die_with_parent,
            )
        try:
            output, _ = self._child.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()  # without waiting: a driver that hangs holds it in the kernel
            raise
        fault = json.loads(output)
        return fault and Fault(**fault)
