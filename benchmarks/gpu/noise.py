"""Private noise on a GPU, compared with the CPU's and with torch's own generator.

    python -m benchmarks.gpu.noise [--quick]

`add_gaussian` of 15 million values. *host* is the CPU's generator with a copy to the device and
back, as before there was one for the device; *torch* is `torch.normal`, whose seed has 64 bits and
whose support is bounded, so that it may not be used. *small* is a single tensor of 4096 values, of
which a model with adapters has hundreds, and *step* the noise of 300 of them in one step of the
private optimiser.
"""

import argparse
from typing import Any

import torch
from torch import nn

from benchmarks.common import last_line
from benchmarks.gpu.measure import measured
from mama.privacy.noise import add_gaussian
from mama.privacy.optimiser import GroupwiseDPOptimizer

VALUES = 15_000_000
SMALL, PARAMETERS = 4096, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    last_line(noise_figures(device, 100_000 if parser.parse_args().quick else VALUES))


def noise_figures(device: torch.device, values: int = VALUES) -> dict[str, Any]:
    """Return the figures of one large tensor and of many small ones."""
    return _large(device, values) | _small(device)


def _large(device: torch.device, values: int) -> dict[str, Any]:
    """Return nanoseconds a value of each side, and the device's memory."""
    total = torch.zeros(values, device=device)

    def host() -> None:
        moved = total.cpu()
        add_gaussian(moved, 1.0)
        total.copy_(moved)

    def own() -> None:
        total.add_(torch.normal(0.0, 1.0, total.shape, device=device))

    result: dict[str, Any] = {"values": values}
    for name, draw in (
        ("device", lambda: add_gaussian(total, 1.0)),
        ("host", host),
        ("torch", own),
    ):
        found = measured(draw, device, 3)
        result[f"{name}_ns"] = round(found["seconds"] / values * 1e9, 2)
        result[f"{name}_gib"] = found.get("peak_gib")
    result["host_over_device"] = round(result["host_ns"] / result["device_ns"], 1)
    return result


def _small(device: torch.device) -> dict[str, Any]:
    """Return milliseconds of the noise of a small tensor, and of a step's 300."""
    parameters = [nn.Parameter(torch.zeros(SMALL, device=device)) for _ in range(PARAMETERS)]
    private = GroupwiseDPOptimizer(
        torch.optim.SGD(parameters),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_groups=1.0,
    )

    def step() -> None:
        private.accumulate()
        private.add_noise()

    total = torch.zeros(SMALL, device=device)
    seconds = {
        "small": measured(lambda: add_gaussian(total, 1.0), device, 5)["seconds"],
        "step": measured(step, device, 3)["seconds"],
    }
    return {f"{name}_ms": round(1e3 * taken, 2) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
