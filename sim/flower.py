"""Flower's own simulation engine: the same apps, sites at work side by side in Ray's processes."""

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
from mama.processes import nothing_left_in, without_proxies
from mama.silence import SILENCE

SWITCHES = SILENCE | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
# Ray's sockets, below a folder of ours in the folder of temporary files: a socket's path has 107 characters at most.
SOCKET, LONGEST_SOCKET = 90, 107


class PlacedClientApp(ClientApp):
    """A ClientApp whose node is the site file at its partition: the engine knows partitions only."""

    def __init__(self, site_files: list[Path]):
        super().__init__()
        # Absolute, because the engine works in a directory of its own.
        self.site_files = [str(path.resolve()) for path in site_files]
        self.code = str(client.app.__file__)

    def __call__(self, message: Message, context: Context) -> Message:
        """Name the site file, then do what a site does."""
        # Workers import by name, so they could find another folder called `client` first.
        if client.app.__file__ != self.code:
            raise ModelError(
                "another `client` package was imported", where=str(client.app.__file__)
            )
        context.node_config["site-file"] = self.site_files[
            int(str(context.node_config["partition-id"]))
        ]
        return client.app.app(message, context)


class ConfiguredServerApp(ServerApp):
    """A ServerApp with a run configuration, which the engine has no other way to give.

    It ends with the engine, whose thread would wait for it: once `over` is set, it can ask for nothing more.
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

    def _until_over(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(ask)
        def asked(*arguments: Any, **options: Any) -> Any:
            if self.over.is_set():
                raise ServiceError("the simulation engine has ended")
            return ask(*arguments, **options)

        return asked


def processors() -> int:
    """How many sites work side by side."""
    return len(os.sched_getaffinity(0))


def run_flower(
    server_app: ServerApp,
    client_app: ClientApp,
    sites: int,
    run_config: dict[str, str | int],
) -> None:
    """Run a ServerApp on Flower's simulation engine, one processor a site, from an empty directory.

    Ray's workers put the working directory first in their import path, where a folder named `client` would be
    taken for ours.

    Raises:
        MamaError: what the ServerApp says.
        ServiceError: the engine cannot work on this machine.
    """
    app = ConfiguredServerApp(server_app, run_config)
    here, before = Path.cwd(), dict(os.environ)
    empty = tempfile.mkdtemp(prefix="fedmama-", dir=temporary_folder())
    with nothing_left_in(Path(empty).resolve()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(empty)
        _set(without_proxies(os.environ) | SWITCHES)
        # Of a cluster of somebody else's, which does not have our data.
        os.environ.pop("RAY_ADDRESS", None)
        try:
            from flwr.simulation import run_simulation

            logging.getLogger("flwr").setLevel(logging.CRITICAL)  # the cause is told once
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
            raise ServiceError(
                f"Flower's simulation engine stopped ({type(cause).__name__}: {_first_line(cause)})",
                fix="The same command goes on, also with --engine inprocess, which needs no other processes",
            ) from None
        finally:
            app.over.set()
            os.chdir(here)
            _set(before)


def temporary_folder() -> Path:
    """The folder of temporary files or, where a socket's path below it would be too long, /tmp.

    Raises:
        ServiceError: neither will do.
    """
    for folder in (Path(tempfile.gettempdir()), Path("/tmp")):
        if len(os.fsencode(folder)) + SOCKET <= LONGEST_SOCKET and os.access(folder, os.W_OK):
            return folder
    raise ServiceError(
        "its path is too long for the sockets of Flower's simulation engine, and /tmp cannot be written",
        where=tempfile.gettempdir(),
        fix=f"Set TMPDIR to a folder of at most {LONGEST_SOCKET - SOCKET} characters, or take --engine inprocess",
    )


def _set(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _root(error: BaseException) -> BaseException:
    """The first in a chain of causes."""
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["without a word"])[0][:200]
