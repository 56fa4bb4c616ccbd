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

from mama.errors import ServiceError
from mama.files import write_text
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
    box = folder.path.resolve() / "deployment"
    home = make_home(box)
    sites = [join(home, path, box) for path in site_files]
    with running(box, home, sites):
        follow(home, submit(home, folder.path), tell)


def make_home(box: Path) -> Home:
    """A provisioned federation on a free port of loopback."""
    path = box / "federation.yaml"
    address = f"127.0.0.1:{free_port()}"
    write_text(path, yaml.safe_dump({"name": "box", "address": address, "listen": address}))
    home = Home(path)
    provision(home)
    return home


def join(home: Home, site_file: Path, box: Path) -> Path:
    """Give a simulated hospital a key pair and a coordinator, and enrol it; returns its new site file."""
    settings = yaml.safe_load(site_file.read_text())
    name = settings["site"]
    folder = box / "sites" / name
    here = site_file.resolve().parent
    for section, key in (("data", "source"), ("data", "dataset")):
        settings[section][key] = str(here / settings[section][key])
    settings |= {key: str(here / settings[key]) for key in ("state", "secret")}
    settings["coordinator"] = {
        "address": home.file.address,
        "certificate": str(home.ca_certificate),
        "pin": pin(home),
        "key": "node.key",
    }
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node.key").exists():
        write_key_pair(folder / "node.key", folder / "node.pub")
    write_text(folder / "site.yaml", yaml.safe_dump(settings, sort_keys=False))
    enrol(home, name, folder / "node.pub")
    return folder / "site.yaml"


@contextmanager
def running(box: Path, home: Home, sites: list[Path]) -> Iterator[Supervisor]:
    """All processes of the federation while the block runs.

    Raises:
        ServiceError: the coordinator's service does not start.
    """
    programs = [_program("coordinator", "server", ["start", "--federation", str(home.path)], box)]
    programs += [_program(path.parent.name, "client", ["start", str(path)], box) for path in sites]
    supervisor = Supervisor(programs, log_to(box / "box.log", f"fedmama.box.{box}"))
    # The thread that starts the programs must live as long as they do.
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        _wait_for(home)
        yield supervisor
    finally:
        supervisor.stopping.set()
        thread.join()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _program(name: str, package: str, arguments: list[str], box: Path) -> Program:
    code = f"from {package}.cli import main; main()"
    return Program(name, [sys.executable, "-I", "-c", code, *arguments], os.environ, box)


def _wait_for(home: Home) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return require_running(home)
        except ServiceError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
