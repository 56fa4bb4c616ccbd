"""Executor that starts the installed ServerApp for runs of the coordinator's own queue only.

It replaces Flower's executor, which installs and imports the bundle that comes with a run, no
matter who submitted it. Only the run's number is used here; its folder is the one that the queue
recorded for that number. Run as a program by `mama-server start`:

python -I -m server.service.executor FEDERATION.yaml
"""

import logging
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PushTaskOutputRequest
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient

from mama.errors import MamaError
from mama.system.logs import printable
from mama.system.processes import die_with_parent
from server.federation.home import Home
from server.service.control import bundle
from server.service.job import job_of

logger = logging.getLogger("fedmama.executor")
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
POLL_S = 0.25
# How long to wait for a SuperLink that does not answer, which is being started again.
AWAY_S = 1.0
# The queue writes a run's number as soon as it has it, which may be after the run is on offer here.
UNKNOWN_S = 5.0


@dataclass(frozen=True)
class _Claim:
    """Acquired task, its token, and the time until which its job may still be written."""

    task: Task
    token: str
    until: float


class Executor:
    """Takes tasks from the SuperLink one by one; each that counts gets a process of its own."""

    def __init__(self, home: Home):
        self._home, self._bundle = home, bundle().hash_str
        secret = home.secret.read_bytes().strip()
        self._asking = self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={ACQUIRE})
        )
        self._claims: list[_Claim] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def step(self) -> bool:
        """Acquire a task, start or refuse the decidable ones; return whether one was acquired.

        Raises:
            httpx.HTTPError: the SuperLink does not answer.
        """
        self._processes = [process for process in self._processes if process.poll() is None]
        # Of every type, so that tasks of unsupported types are refused at once.
        answer = self._asking.AcquireTask(AcquireTaskRequest(supported_task_types=list(TaskType)))
        taken = answer.HasField("task") and bool(answer.token)
        if taken:
            until = time.monotonic() + UNKNOWN_S
            self._claims.append(_Claim(answer.task, answer.token, until))
        for claim in list(self._claims):
            self._decide(claim)
        return taken

    def _decide(self, claim: _Claim) -> None:
        task = claim.task
        if task.type != TaskType.SERVER_APP:
            self._refuse(claim, f"it is a task for {printable(task.type, 40)}")
        elif task.fab_hash != self._bundle:
            self._refuse(claim, f"its bundle is another: {printable(task.fab_hash, 64)}")
        elif job_of(self._home, task.run_id):
            self._start(claim)
        elif time.monotonic() > claim.until:
            self._refuse(claim, "it is not in this coordinator's queue")

    def _start(self, claim: _Claim) -> None:
        self._claims.remove(claim)
        command = [sys.executable, "-I", "-m", "server.service.serverapp"]
        process = subprocess.Popen(
            [*command, str(self._home.path), str(claim.task.run_id)],
            stdin=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self._processes.append(process)
        assert process.stdin is not None
        # Not as an argument, which every user of the machine can read.
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(claim.token.encode())

    def _refuse(self, claim: _Claim, reason: str) -> None:
        self._claims.remove(claim)
        logger.error("refused run %d: %s", claim.task.run_id, reason)
        request = PushTaskOutputRequest(sub_status=SubStatus.FAILED, details="refused")
        with (
            closing(self._client(RuntimeTokenHttpInterceptor(claim.token))) as client,
            suppress(httpx.HTTPStatusError),  # it is over already
        ):
            client.PushTaskOutput(request)

    def _client(self, authentication: Any) -> RuntimeHttpClient:
        version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
        return RuntimeHttpClient.from_server_address(
            self._home.file.loopback,
            False,
            str(self._home.ca_certificate),
            [version, authentication],
        )


def main(federation: Path) -> None:
    """Execute tasks until the process is terminated."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    executor, away = Executor(Home(federation)), False
    while True:
        try:
            if not executor.step():
                time.sleep(POLL_S)
            away = False
        except httpx.HTTPError as error:
            if not away:
                logger.warning("the SuperLink does not answer (%s)", type(error).__name__)
            away = True
            time.sleep(AWAY_S)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except MamaError as error:
        sys.exit(f"error: {error}")
