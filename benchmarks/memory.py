"""Memory of a piece of work, measured in a process of its own. Linux."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def in_child(work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """What `work` returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


def growth(work: Callable[[], object]) -> float:
    """MiB by which this process' resident memory was greater at its peak during `work` than before."""
    before = resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far is forgotten
    work()
    return peak() - before


def resident() -> float:
    """MiB of this process in memory now."""
    return _status("VmRSS")


def peak() -> float:
    """MiB of this process in memory at its peak."""
    return _status("VmHWM")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)
