"""Memory of a function, measured in a separate process (Linux)."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def in_child(work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Return the result of `work` in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


def growth(work: Callable[[], object]) -> float:
    """Return MiB by which this process's peak resident memory during `work` exceeds its start."""
    before = resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    work()
    return peak() - before


def resident() -> float:
    """Return MiB of this process in memory now."""
    return _status("VmRSS")


def peak() -> float:
    """Return MiB of this process in memory at its peak."""
    return _status("VmHWM")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)
