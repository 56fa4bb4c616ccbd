"""The machine: Python, the installed code, torch and its device, disk, shared memory, rights."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch

from client.installed import is_checkout
from client.preflight.check import Check, fail, ok, warn
from client.sitefile import SiteFile
from client.work import device_of

MIN_FREE_GB, GOOD_FREE_GB = 1, 20
# A loader's worker passes batches through shared memory.
SHARED_MB = 64


def check_machine(site: SiteFile) -> Iterator[Check]:
    """What the site file's device, folders and workers need of this machine."""
    found = f"Python {platform.python_version()}, fedmama {version('fedmama')}"
    if is_checkout():
        yield warn("code", f"{found} from a checkout", "Install a release for a hospital")
    else:
        yield ok("code", found)
    yield _torch(site)
    yield _disk(site)
    yield _rights(site)
    yield _shared_memory(site)


def _torch(site: SiteFile) -> Check:
    known = f"torch {torch.__version__}"
    device = device_of(site)
    if device.type == "cpu":
        if site.device == "cpu":
            return ok("device", f"{known} on the CPU, as the site file says")
        return warn(
            "device", f"{known} finds no GPU", "Training on a CPU is slow; check the driver"
        )
    if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        return fail("device", f"{known} finds no {device}", "Correct device, or check the driver")
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return ok("device", f"{known}, {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")


def _disk(site: SiteFile) -> Check:
    place = _existing(site.state)
    free = shutil.disk_usage(place).free / 1e9
    found = f"{free:.0f} GB free at {place}"
    if free < MIN_FREE_GB:
        return fail("disk", found, "Make room, or move `state`")
    if free < GOOD_FREE_GB:
        return warn("disk", found, "A large model's states need tens of GB; watch it")
    return ok("disk", found)


def _rights(site: SiteFile) -> Check:
    folders = (site.state, site.data.dataset)
    closed = [str(f) for f in folders if not os.access(_existing(f), os.W_OK | os.X_OK)]
    if closed:
        return fail("rights", f"cannot write {', '.join(closed)}", "Give this user the right")
    if site.coordinator and not site.coordinator.key.is_file():
        return fail(
            "rights",
            f"there is no key at {site.coordinator.key}",
            "Correct `coordinator.key`, or make a new pair by `mama-site new-key` and have it enrolled",
        )
    if site.coordinator and (mode := _mode(site.coordinator.key)) & 0o077:
        return fail("rights", f"others may read {site.coordinator.key} ({mode:o})", "chmod 600")
    return ok("rights", f"{site.state} can be written, the key is the owner's alone")


def _shared_memory(site: SiteFile) -> Check:
    place = Path("/dev/shm")
    if sys.platform != "linux" or not place.exists():
        return ok("shared memory", "not used on this system")
    size, need = shutil.disk_usage(place).total / 2**20, SHARED_MB * site.data.workers
    found = f"{size:.0f} MiB at /dev/shm for {site.data.workers} workers"
    if size < need:
        return warn(
            "shared memory", found, f"Give a container --shm-size {need}m, or fewer workers"
        )
    return ok("shared memory", found)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777 if path.exists() else 0
