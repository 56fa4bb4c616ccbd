"""Flower's own simulation engine: the same apps, sites at work side by side in Ray's processes."""

import logging
import os
import tempfile
import warnings
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

import client.app
from mama.errors import ModelError
from mama.silence import SILENCE

SWITCHES = SILENCE | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


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
    """A ServerApp with a run configuration, which the engine has no other way to give."""

    def __init__(self, inner: ServerApp, run_config: dict[str, str | int]):
        super().__init__()
        self.inner, self.run_config = inner, run_config

    def __call__(self, grid: Grid, context: Context) -> None:
        """Run the inner app."""
        context.run_config.update(self.run_config)
        self.inner(grid, context)


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
    """
    os.environ.update(SWITCHES)
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fedmama-") as empty, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(empty)
        try:
            from flwr.simulation import run_simulation

            logging.getLogger("flwr").setLevel(logging.ERROR)
            run_simulation(
                ConfiguredServerApp(server_app, run_config),
                client_app,
                num_supernodes=sites,
                backend_config={
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                    "init_args": {"logging_level": "ERROR", "log_to_driver": False},
                },
            )
        finally:
            os.chdir(here)
