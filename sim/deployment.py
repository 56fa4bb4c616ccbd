"""A federation in a box: the coordinator's service and every hospital's as real processes, with TLS and keys on
loopback, started for one run and stopped after it."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from client.service import ServiceFolder
from client.sitefile import load_site
from mama.configfile import read_yaml
from mama.errors import ServiceError
from mama.files import write_text
from mama.processes import without_proxies
from mama.sealed import read_if_whole
from mama.signing import write_key_pair
from mama.supervise import Program, Supervisor, log_to
from server.daemon import require_running
from server.federation import Home
from server.folder import Event, RunFolder
from server.follow import follow, submit
from server.provision import pin, provision
from server.roster import enrol

PATIENCE_S = 60.0


def run_deployment(
    folder: RunFolder, site_files: list[Path], tell: Callable[[Event], None]
) -> None:
    """Run the federation whose folder is given over real processes; all of theirs lies in deployment/ below it.

    Raises:
        MamaError: what the coordinator's service says of the run.
    """
    box = Box(folder.path / "deployment")
    for path in site_files:
        box.join(path)
    with box.running():
        follow(box.home, submit(box.home, folder.path), tell)


class Box:
    """A provisioned federation on a free port of loopback; `sites` are the site files of those enrolled, by name.

    Args:
        address: where sites connect instead, when something stands before the service.
    """

    def __init__(self, folder: Path, address: str | None = None):
        self.folder = folder.resolve()
        path = self.folder / "federation.yaml"
        listen = f"127.0.0.1:{free_port()}"
        settings = {"name": "box", "address": address or listen, "listen": listen}
        write_text(path, yaml.safe_dump(settings))
        self.home = Home(path)
        provision(self.home)
        self.sites: dict[str, Path] = {}

    def join(self, site_file: Path) -> Path:
        """Enrol a simulated hospital; returns its site file in the box, with a key pair and a coordinator."""
        load_site(site_file)  # a file that is none is named
        settings = read_yaml(site_file)
        name, here = settings["site"], site_file.resolve().parent
        folder = self.folder / "sites" / name
        for key in ("source", "dataset"):
            settings["data"][key] = str(here / settings["data"][key])
        settings.setdefault(
            "privacy", "privacy"
        )  # the ledger is the patients', whatever the engine
        settings |= {key: str(here / settings[key]) for key in ("state", "secret", "privacy")}
        settings["coordinator"] = {
            "address": self.home.file.address,
            "certificate": str(self.home.ca_certificate),
            "pin": pin(self.home),
            "key": "node.key",
        }
        if not (folder / "node.key").exists():
            write_key_pair(folder / "node.key", folder / "node.pub")
        self.sites[name] = folder / "site.yaml"
        write_text(self.sites[name], yaml.safe_dump(settings, sort_keys=False))
        enrol(self.home, name, folder / "node.pub")
        return self.sites[name]

    @contextmanager
    def running(self) -> Iterator[None]:
        """All processes of the federation while the block runs.

        Raises:
            ServiceError: the coordinator's service does not start.
        """
        programs = [
            service("coordinator", "server", "--federation", self.home.path),
            *(service(name, "client", path) for name, path in self.sites.items()),
        ]
        supervisor = Supervisor(programs, log_to(self.folder / "box.log", str(self.folder)))
        # The thread that starts the programs must live as long as they do.
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        try:
            _wait_for(self.home)
            yield
        finally:
            supervisor.stopping.set()
            thread.join()

    def processes(self) -> dict[str, int]:
        """Ids of the processes that do the work: superlink, executor, and of each site NAME/node and NAME/guard."""
        found = read_if_whole(self.home.status)
        for name, path in self.sites.items():
            of_site = read_if_whole(ServiceFolder(load_site(path)).processes)
            found |= {f"{name}/{key}": value for key, value in of_site.items()}
        return {name: number for name, number in found.items() if number}


def service(name: str, package: str, *arguments: object) -> Program:
    """The `start` of a command line, `server` or `client`, as a program."""
    code = f"from {package}.cli import main; main()"
    command = [sys.executable, "-I", "-c", code, "start", *map(str, arguments)]
    # All of them are on this machine.
    return Program(name, command, without_proxies(os.environ), Path("/"))


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(home: Home) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return require_running(home)
        except ServiceError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
