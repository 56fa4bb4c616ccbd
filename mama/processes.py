"""Processes that end with the one that started them, also where that one is killed."""

import ctypes
import os
import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

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
