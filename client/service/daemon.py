"""`mama-site start`: the hospital's side of a federation as a service.

The node keeps contact with the coordinator, the guard does its tasks with the installed code. Both
are programs of their own, are started again when they end or hang, and write to one log.
"""

import os
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path

from client.identity.enrolment import own_key, pinned_key
from client.policy.in_force import refuse_weaker
from client.service.health import serve_health
from client.service.status import ServiceFolder
from client.site.config import load_site
from mama.system.files import write_bytes
from mama.system.locks import only_service
from mama.system.processes import FLOWER, free_port, without_proxies
from mama.system.sealed import read_if_whole, write_sealed
from mama.system.supervise import Program, Supervisor, log_to, run_service

NODE, GUARD = "node", "guard"
SWITCHES = FLOWER | {
    "HF_HUB_OFFLINE": "1",
    # An answer goes in pieces of 1 MiB, so that a line of half a megabit is seen to bring something
    # each minute.
    "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE": str(2**20),
}
# A node that does not even try to reach the coordinator for so long has stopped working without
# ending.
SILENT_S = 180.0


def serve(site_file: Path) -> None:
    """Run the site's service until SIGTERM or SIGINT.

    Raises:
        ConfigError: the site file has no coordinator, its authority is not the pinned one, or there
            is no key; or its policy is weaker than the last.
        ServiceError: it runs already.
    """
    folder = ServiceFolder(load_site(site_file))
    refuse_weaker(folder.site)
    pinned_key(folder.coordinator)
    own_key(folder.coordinator.key)
    folder.make()
    if not folder.secret.exists():
        write_bytes(folder.secret, secrets.token_hex(32).encode(), private=True)
    with only_service(folder.path / "service.lock", f"site {folder.site.site}"):
        supervisor = Supervisor(programs(site_file, folder), log_to(folder.log, "fedmama.site"))
        with serve_health(folder):
            run_service(supervisor, lambda: _record_processes(folder, supervisor))


def programs(site_file: Path, folder: ServiceFolder) -> list[Program]:
    """Return the node and the guard, on a free port of this machine's loopback."""
    arguments = [str(site_file.resolve()), str(free_port())]
    environment = os.environ | SWITCHES | {"FLWR_HOME": str(folder.flower_home)}

    def silent(process: int) -> bool:
        # The record of an earlier node does not count.
        record = read_if_whole(folder.node)
        return (
            record.get("process") == process and time.time() - record.get("attempt", 0) > SILENT_S
        )

    return [
        Program(
            NODE,
            [sys.executable, "-I", "-m", "client.service.node", *arguments],
            environment,
            folder.flower_home,
            silent,
        ),
        Program(
            GUARD,
            [sys.executable, "-I", "-m", "client.service.guard", *arguments],
            # It talks to the node on this machine only.
            without_proxies(environment),
            folder.flower_home,
        ),
    ]


def _record_processes(folder: ServiceFolder, supervisor: Supervisor) -> None:
    written: dict[str, int | None] = {}
    while not supervisor.stopping.wait(1.0):
        ids = {name: supervisor.process_id(name) for name in (NODE, GUARD)}
        if ids != written:
            with suppress(OSError):  # on a full disk status is older than it might be
                write_sealed(folder.processes, {"process": os.getpid(), **ids})
                written = ids
