"""Environment of this project's processes: variables, and the version of Flower."""

import os
from importlib.metadata import version

# Flower contacts only the coordinator and installs nothing.
FLOWER = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}

# Private parts of Flower are used and replaced (client/service/flower, server/flower).
TESTED_FLOWER = ("1.41", "1.42")


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
