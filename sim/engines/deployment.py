"""Local deployment: the services of coordinator and hospitals as real processes on loopback.

They use TLS and keys, are started for one run and stopped after it.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from client.service.status import ServiceFolder
from client.site.config import load_site
from mama.config.load import read_yaml
from mama.errors import ServiceError
from mama.exchange.signing import write_key_pair
from mama.system.files import write_text
from mama.system.processes import free_port, without_proxies
from mama.system.sealed import read_if_whole
from mama.system.supervise import Program, Supervisor, log_to
from server.federation.home import Home
from server.federation.provision import pin, provision
from server.federation.roster import enrol
from server.run.events import Event
from server.run.folder import RunFolder
from server.service.daemon import require_running
from server.service.follow import follow, submit

PATIENCE_S = 300.0


def run_deployment(
    folder: RunFolder, site_files: list[Path], on_event: Callable[[Event], None]
) -> None:
    """Run a federation over real processes, whose files are in deployment/ below the run's folder.

    Raises:
        MamaError: the run's error, as reported by the coordinator's service.
    """
    deployment = LocalDeployment(folder.path / "deployment")
    for path in site_files:
        deployment.join(path)
    with deployment.running():
        follow(deployment.home, submit(deployment.home, folder.path), on_event)


class LocalDeployment:
    """Provisioned federation on a free port of loopback; `sites` are its site files by name.

    Args:
        folder: folder of all its files.
        address: the address that sites use, if a proxy stands before the service.
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
        """Enrol a simulated hospital; return its site file with key pair and coordinator."""
        load_site(site_file)  # reports an invalid file
        settings = read_yaml(site_file)
        name, origin = settings["site"], site_file.resolve().parent
        folder = self.folder / "sites" / name
        for key in ("source", "dataset"):
            settings["data"][key] = str(origin / settings["data"][key])
        settings.setdefault(
            "privacy", "privacy"
        )  # the ledger belongs to the patients, whatever the engine
        settings |= {key: str(origin / settings[key]) for key in ("state", "secret", "privacy")}
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
        """Run all processes of the federation during the block.

        Raises:
            ServiceError: the coordinator's service does not start.
        """
        programs = [
            service("coordinator", "server", "--federation", self.home.path),
            *(service(name, "client", path) for name, path in self.sites.items()),
        ]
        supervisor = Supervisor(programs, log_to(self.folder / "box.log", str(self.folder)))
        # The thread that starts the programs must outlive them.
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        try:
            _wait_for(self.home)
            yield
        finally:
            supervisor.stopping.set()
            thread.join()

    def processes(self) -> dict[str, int]:
        """Return ids of the working processes: superlink, executor, NAME/node and NAME/guard."""
        found = read_if_whole(self.home.status)
        for name, path in self.sites.items():
            of_site = read_if_whole(ServiceFolder(load_site(path)).processes)
            found |= {f"{name}/{key}": value for key, value in of_site.items()}
        return {name: number for name, number in found.items() if number}


def service(name: str, package: str, *arguments: object) -> Program:
    """Return the `start` command of `server` or `client` as a program."""
    code = f"from {package}.cli import main; main()"
    command = [sys.executable, "-I", "-c", code, "start", *map(str, arguments)]
    # All processes are on this machine.
    return Program(name, command, without_proxies(os.environ), Path("/"))


def _wait_for(home: Home) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return require_running(home)
        except ServiceError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
