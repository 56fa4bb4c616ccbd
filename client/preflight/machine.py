"""Checks of the machine: code version, device, disk, permissions and shared memory."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from client.preflight.check import Check, fail, ok, warn
from client.preflight.gpu import check_device
from client.service.installed import is_checkout
from client.site.config import SiteFile
from mama.system.formats import size

MIN_FREE, GOOD_FREE = 1e9, 20e9  # bytes
# Shared memory through which a data loader's worker passes its batches.
SHARED_MB = 64


def check_machine(site: SiteFile) -> Iterator[Check]:
    """Check this machine against the site file's device, folders and workers."""
    found = f"Python {platform.python_version()}, fedmama {version('fedmama')}"
    if is_checkout():
        yield warn("code", f"{found} from a checkout", "Install a release at a hospital")
    else:
        yield ok("code", found)
    yield from check_device(site)
    yield _disk(site)
    yield _rights(site)
    yield _shared_memory(site)


def _disk(site: SiteFile) -> Check:
    place = _existing(site.state)
    free = shutil.disk_usage(place).free
    found = f"{size(free)} free at {place}"
    if free < MIN_FREE:
        return fail("disk", found, "Free some space, or move `state` to another disk")
    if free < GOOD_FREE:
        return warn("disk", found, "The states of a large model need tens of GB")
    return ok("disk", found)


def _rights(site: SiteFile) -> Check:
    folders = (site.state, site.data.dataset)
    closed = [str(f) for f in folders if not os.access(_existing(f), os.W_OK | os.X_OK)]
    if closed:
        found = f"no write permission for {', '.join(closed)}"
        return fail("rights", found, "Give this user write permission")
    if site.coordinator and not site.coordinator.key.is_file():
        return fail(
            "rights",
            f"{site.coordinator.key} does not exist",
            "Correct `coordinator.key`, or create a new key by `mama-site new-key` and have it "
            "enrolled",
        )
    if site.coordinator and (mode := _mode(site.coordinator.key)) & 0o077:
        key = site.coordinator.key
        return fail("rights", f"{key} is readable by others ({mode:o})", f"Run `chmod 600 {key}`")
    return ok("rights", f"{site.state} is writable, the key is readable by its owner only")


def _shared_memory(site: SiteFile) -> Check:
    place = Path("/dev/shm")
    if sys.platform != "linux" or not place.exists():
        return ok("shared memory", "not used on this system")
    size, need = shutil.disk_usage(place).total / 2**20, SHARED_MB * site.data.workers
    found = f"{size:.0f} MiB at /dev/shm for {site.data.workers} workers"
    if size < need:
        return warn(
            "shared memory",
            found,
            f"Start the container with --shm-size {need}m, or reduce data.workers",
        )
    return ok("shared memory", found)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777 if path.exists() else 0
