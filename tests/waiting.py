"""Waiting for other processes and threads."""

import time
from collections.abc import Callable
from typing import TypeVar

# A busy machine is slow, and no test passes or fails by the time that something takes.
PATIENCE_S = 600.0

Found = TypeVar("Found")


def wait_for(
    condition: Callable[[], Found], what: str = "a condition", seconds: float = PATIENCE_S
) -> Found:
    """Wait until a condition holds and return its value; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.05)
    return found


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
    """Return True once a condition holds, or False after `seconds`."""
    end = time.monotonic() + seconds
    while not (held := bool(condition())) and time.monotonic() < end:
        time.sleep(0.05)
    return held
