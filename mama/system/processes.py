"""Processes of this project: their start, environment, Flower's version, and end with a parent."""

import ctypes
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

# Flower contacts only the coordinator and installs nothing.
FLOWER = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}

# Private parts of Flower are used and replaced (client/service/flower, server/flower).
TESTED_FLOWER = ("1.41", "1.42")

_PR_SET_PDEATHSIG = 1
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def untested_flower() -> str | None:
    """Return a warning if the installed version of Flower is not one of those tested, else None."""
    found = version("flwr")
    if found.rpartition(".")[0] in TESTED_FLOWER:
        return None
    return (
        f"Flower {found} is installed, and this version was tested with "
        f"{' and '.join(TESTED_FLOWER)} only: run `pip install 'flwr=={TESTED_FLOWER[-1]}.*'`"
    )


def let_idle_threads_sleep() -> None:
    """Set OpenMP's wait policy, which torch reads at its first import.

    Threads that spin while waiting cost four times the CPU time on a busy machine
    (docs/results.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries without garbage collection, and exempt their objects from it.

    They are a million objects that stay until the process ends. Collecting among them takes a third
    of the time of starting and ending such a process (docs/benchmarks.md).
    """
    was_enabled, loaded = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:
            gc.freeze()
        if was_enabled:
            gc.enable()


def die_with_parent() -> None:
    """Make Linux kill this process when the thread that started it ends."""
    if _prctl:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool whose workers die with the calling thread, the only one that may use it.

    Workers are spawned, because a fork copies the threads of libraries that the caller has loaded.
    """
    return ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_stay_with,
        initargs=(os.getpid(),),
    )


@contextmanager
def nothing_left_in(folder: Path) -> Iterator[None]:
    """Kill every process working in `folder` and remove it when the block or this process ends.

    For libraries whose processes can outlive their parent. The working directory must not be
    `folder` when the block ends.
    """
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-m", "mama.system.processes", str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # not interrupted by Ctrl-C
    )
    assert watcher.stdin is not None
    try:
        yield
    finally:
        watcher.stdin.close()
        watcher.wait()


def _clear(folder: Path) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink() == folder:
                os.kill(int(entry.name), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a port of this machine's loopback that no process uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without proxies, for processes that communicate on this machine only.

    Libraries interpret `no_proxy` differently, so the variables that name a proxy are removed too.
    """
    kept = {k: v for k, v in environment.items() if not k.lower().endswith("_proxy")}
    return kept | {"NO_PROXY": "*", "no_proxy": "*"}


def _stay_with(parent: int) -> None:
    die_with_parent()
    if os.getppid() != parent:  # the parent was killed earlier
        os._exit(1)


if __name__ == "__main__":
    # The pipe closes when the parent ends.
    sys.stdin.read()
    _clear(Path(sys.argv[1]))
