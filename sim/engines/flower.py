"""Flower's simulation engine: the same apps, with sites in parallel Ray processes."""

import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

import client.app
from mama.errors import MamaError, ModelError, ServiceError
from mama.system.processes import FLOWER, nothing_left_in, without_proxies

SWITCHES = FLOWER | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
# Ray's sockets are below a temporary folder of this run; socket paths have at most 107 characters.
SOCKET, LONGEST_SOCKET = 90, 107


class PlacedClientApp(ClientApp):
    """ClientApp that maps an engine's partition to a site file."""

    def __init__(self, site_files: list[Path]):
        super().__init__()
        # Absolute, because the engine changes the working directory.
        self.site_files = [str(path.resolve()) for path in site_files]
        self.code = str(client.app.__file__)

    def __call__(self, message: Message, context: Context) -> Message:
        """Set the site file, then run the site's app."""
        # Workers import by name and could find another folder called `client` first.
        if client.app.__file__ != self.code:
            raise ModelError(
                "another `client` package was imported", where=str(client.app.__file__)
            )
        context.node_config["site-file"] = self.site_files[
            int(str(context.node_config["partition-id"]))
        ]
        return client.app.app(message, context)


class ConfiguredServerApp(ServerApp):
    """ServerApp with a run configuration, which the engine cannot pass.

    It ends with the engine, whose thread would wait for it: once `over` is set, its requests fail.
    """

    def __init__(self, inner: ServerApp, run_config: dict[str, str | int]):
        super().__init__()
        self.inner, self.run_config = inner, run_config
        self.over = threading.Event()

    def __call__(self, grid: Grid, context: Context) -> None:
        """Run the inner app."""
        context.run_config.update(self.run_config)
        for name in ("get_node_ids", "push_messages", "pull_messages"):
            setattr(grid, name, self._until_over(getattr(grid, name)))
        self.inner(grid, context)

    def _until_over(self, request: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(request)
        def checked(*arguments: Any, **options: Any) -> Any:
            if self.over.is_set():
                raise ServiceError("the simulation engine has ended")
            return request(*arguments, **options)

        return checked


def processors() -> int:
    """Return the number of sites that run in parallel."""
    return len(os.sched_getaffinity(0))


def run_flower(
    server_app: ServerApp,
    client_app: ClientApp,
    sites: int,
    run_config: dict[str, str | int],
) -> None:
    """Run a ServerApp on Flower's simulation engine, one CPU per site, in an empty directory.

    Ray's workers put the working directory first in their import path, where a folder named
    `client` would be imported instead of this package.

    Raises:
        MamaError: an error of the ServerApp.
        ServiceError: the engine cannot run on this machine.
    """
    app = ConfiguredServerApp(server_app, run_config)
    here, before = Path.cwd(), dict(os.environ)
    empty = tempfile.mkdtemp(prefix="fedmama-", dir=temporary_folder())
    with nothing_left_in(Path(empty).resolve()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(empty)
        _set(without_proxies(os.environ) | SWITCHES)
        # The address of a foreign cluster, which does not have the data.
        os.environ.pop("RAY_ADDRESS", None)
        try:
            from flwr.simulation import run_simulation

            logging.getLogger("flwr").setLevel(logging.CRITICAL)  # the cause is reported once
            run_simulation(
                app,
                client_app,
                num_supernodes=sites,
                backend_config={
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                    "init_args": {
                        "logging_level": "ERROR",
                        "log_to_driver": False,
                        "_temp_dir": empty,
                    },
                },
            )
        except MamaError:
            raise
        except Exception as error:
            cause = _root(error)
            name = type(cause).__name__
            raise ServiceError(
                f"Flower's simulation engine stopped ({name}: {_first_line(cause)})",
                fix="Run the same command again to continue, if necessary with --engine "
                "inprocess, which needs no other processes",
            ) from None
        finally:
            app.over.set()
            os.chdir(here)
            _set(before)


def temporary_folder() -> Path:
    """Return the folder of temporary files or, if its path is too long for sockets, /tmp.

    Raises:
        ServiceError: neither is usable.
    """
    for folder in (Path(tempfile.gettempdir()), Path("/tmp")):
        if len(os.fsencode(folder)) + SOCKET <= LONGEST_SOCKET and os.access(folder, os.W_OK):
            return folder
    raise ServiceError(
        "the path is too long for the sockets of Flower's simulation engine, and /tmp is not "
        "writable",
        where=tempfile.gettempdir(),
        fix=f"Set TMPDIR to a folder of at most {LONGEST_SOCKET - SOCKET} characters, or use "
        "--engine inprocess",
    )


def _set(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _root(error: BaseException) -> BaseException:
    """Return the first error in a chain of causes."""
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
