"""Service of the federation on the coordinator's machine (`mama-server start`).

Flower's SuperLink and our executor run as subprocesses that are restarted when they end and write
to one log. A thread keeps the SuperLink's nodes in step with the roster, drives the queue of runs,
and restarts the SuperLink after the certificate was renewed.
"""

import os
import re
import sys
import time
from pathlib import Path

from mama.errors import MamaError, ServiceError
from mama.system.locks import locked_if_free, only_service
from mama.system.logs import printable
from mama.system.processes import FLOWER, without_proxies
from mama.system.sealed import write_sealed
from mama.system.supervise import Program, Supervisor, children, log_to, run_service
from server.federation.certificates import WARNING_DAYS, days_left
from server.federation.home import Home, split_address
from server.federation.roster import read_roster
from server.service.control import Control
from server.service.job import Job
from server.service.jobs import JobFile, JobRunner
from server.service.on_end import ended_run, run_command

LINK, EXECUTOR = "superlink", "executor"
# Log lines of the SuperLink for successful calls.
NOISE = re.compile(
    r"uvicorn\.access.* [23]\d\d$|ControlServicer\.List|\[Fleet\.(Get|Pull|Push|Send)"
)
LOCK = "service.lock"
STEP_S = 1.0
DAY_S = 86400.0


def serve(home: Home) -> None:
    """Run the service until SIGTERM or SIGINT.

    Raises:
        ConfigError: the federation is not provisioned.
        ServiceError: it runs already.
    """
    read_roster(home)
    home.flower_home.mkdir(mode=0o700, exist_ok=True)
    home.jobs.mkdir(mode=0o700, exist_ok=True)
    with only_service(home.state / LOCK, home.file.name):
        supervisor = Supervisor(programs(home), log_to(home.log, "fedmama.service"))
        run_service(supervisor, _Keeper(home, supervisor).run)


def programs(home: Home) -> list[Program]:
    """Return the two programs at the coordinator."""
    host, port = split_address(home.file.listen)
    environment = without_proxies(os.environ) | FLOWER | {"FLWR_HOME": str(home.flower_home)}
    link = [
        str(Path(sys.executable).parent / "flower-superlink"),
        *("--host", host, "--port", str(port)),
        *("--ssl-ca-certfile", str(home.ca_certificate)),
        *("--ssl-certfile", str(home.certificate), "--ssl-keyfile", str(home.key)),
        "--enable-supernode-auth",
        *("--database", str(home.database), "--isolation", "process"),
        *("--superexec-auth-secret-file", str(home.secret)),
        "--disable-runtime-dependency-installation",
    ]
    executor = [sys.executable, "-I", "-m", "server.service.executor", str(home.path)]
    return [
        Program(LINK, link, environment, home.flower_home, noise=NOISE),
        Program(EXECUTOR, executor, environment, home.flower_home),
    ]


class _Keeper:
    """Maintenance thread beside the programs, once a second."""

    def __init__(self, home: Home, supervisor: Supervisor):
        self.home, self.supervisor = home, supervisor
        self._certificate = home.certificate.stat().st_mtime_ns
        self._warned = -DAY_S
        self._trouble = ""
        self._processes: dict[str, int | None] = {}

    def run(self) -> None:
        """Until the service stops; an error is logged once, and the next step tries again."""
        with Control(self.home) as control:
            jobs = JobRunner(self.home, control, self._serverapp_runs, self._run_ended)
            while not self.supervisor.stopping.wait(STEP_S):
                try:
                    self._write_status()
                    self._look_at_certificate()
                    self._admit(control)
                    jobs.step()
                    trouble = ""
                except (MamaError, OSError) as error:
                    trouble = str(error)
                except Exception as error:
                    # The service must survive unforeseen errors.
                    trouble = f"{type(error).__name__}: {error}"
                if trouble and trouble != self._trouble:
                    self.supervisor.log.warning("service | %s", printable(trouble, 1000))
                self._trouble = trouble

    def _write_status(self) -> None:
        now = {name: self.supervisor.process_id(name) for name in (LINK, EXECUTOR)}
        if now != self._processes:
            write_sealed(self.home.status, {"process": os.getpid(), **now})
            self._processes = now

    def _run_ended(self, job: Job) -> None:
        try:
            home = Home(self.home.path)  # the file as it is now
        except MamaError as error:
            self.supervisor.log.warning("on_end | run %s: not run: %s", job.out.name, error)
            return
        if job.kind == "run" and home.file.on_end:
            run_command(home.file.on_end, ended_run(home, job), self.supervisor.log)
        else:
            JobFile(home, job.out).unannounced.unlink(missing_ok=True)

    def _serverapp_runs(self) -> bool:
        """Return whether the executor has a running process."""
        executor = self.supervisor.process_id(EXECUTOR)
        return executor is not None and bool(children(executor))

    def _admit(self, control: Control) -> None:
        """Make the SuperLink's nodes those of the roster."""
        wanted = {m.public_key: m.site for m in read_roster(self.home).active}
        present = {node.public_key: node for node in control.nodes()}
        for key, site in wanted.items():
            if key not in present:
                control.register(site, key)
                self.supervisor.log.info("service | admitted %s", site)
        for key, node in present.items():
            if key not in wanted:
                control.unregister(node.node)
                self.supervisor.log.info("service | shut out %s", printable(node.name))

    def _look_at_certificate(self) -> None:
        made = self.home.certificate.stat().st_mtime_ns
        if made != self._certificate:
            self._certificate = made
            self.supervisor.log.info("service | puts the new certificate into use")
            self.supervisor.restart(LINK)
        if time.monotonic() - self._warned > DAY_S:
            self._warned = time.monotonic()
            left = days_left(self.home.certificate)
            if left < WARNING_DAYS:
                self.supervisor.log.warning(
                    "service | the certificate expires in %.0f days; run `mama-server renew`", left
                )


def require_running(home: Home) -> None:
    """Check that the service is at work.

    Raises:
        ServiceError: it is not.
    """
    if not is_running(home):
        raise ServiceError(
            "is not running", where=home.file.name, fix="Start it with `mama-server start`"
        )


def is_running(home: Home) -> bool:
    """Return whether the service is running."""
    read_roster(home)  # before provisioning there is nothing to be locked
    with locked_if_free(home.state / LOCK) as free:
        return not free
