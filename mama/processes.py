"""Processes that end with the one that started them, also where that one is killed."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent() -> None:
    """Have Linux kill this process when the thread that started it ends."""
    if _prctl:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """A pool whose workers die with the calling thread; to be used by it alone.

    They are spawned, because a fork copies the threads of whatever library the caller has loaded.
    """
    return ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_stay_with,
        initargs=(os.getpid(),),
    )


@contextmanager
def nothing_left_in(folder: Path) -> Iterator[None]:
    """When the block or this process ends, however it does, kill every process that works in `folder`, and remove it.

    For a library's processes, of which some outlive what started them. The block must not end in the folder itself.
    """
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-m", "mama.processes", str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process
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


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of processes that talk to one another on this machine alone: no proxy is asked.

    Libraries differ in what they read of `no_proxy`, so the variables that name a proxy are left out too.
    """
    kept = {k: v for k, v in environment.items() if not k.lower().endswith("_proxy")}
    return kept | {"NO_PROXY": "*", "no_proxy": "*"}


def _stay_with(parent: int) -> None:
    die_with_parent()
    if os.getppid() != parent:  # it was killed before
        os._exit(1)


if __name__ == "__main__":
    # The end of the pipe is the end of who started this.
    sys.stdin.read()
    _clear(Path(sys.argv[1]))
