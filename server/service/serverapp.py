"""ServerApp of one run, started by the executor with the task's token on standard input.

python -I -m server.service.serverapp FEDERATION.yaml RUN
"""

import logging
import os
import signal
import sys
from pathlib import Path

from flwr.app.user_config import UserConfig
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, run_from_proto
from flwr.proto.runtime_pb2 import PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from mama.errors import MamaError, ServiceError
from server.federation.home import Home
from server.federation.roster import read_roster
from server.service.job import Job, job_of

logger = logging.getLogger("fedmama.serverapp")


def main(home: Home, run: int, token: str) -> None:
    """Do a run of the coordinator's queue, and report the task's end to the SuperLink.

    Raises:
        ServiceError: the queue has no such run at work.
        KeyboardInterrupt: the task was withdrawn, or the executor has died.
    """
    job = job_of(home, run)
    if job is None:
        raise ServiceError("is not in this coordinator's queue", where=f"run {run}")
    grid = HttpGrid(
        home.file.loopback, root_certificates=home.ca_certificate.read_bytes(), token=token
    )
    client = grid._runtime_client
    # Before any slow step: a task without a heartbeat is given up.
    HeartbeatSender(make_task_heartbeat_fn_http(client)).start()
    given = client.PullTaskInput(PullTaskInputRequest())
    # Flower's messages take their sender from TaskIdentity.
    TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
    TaskIdentity.node_id = given.context.node_id
    grid.set_run(run_from_proto(given.run))
    context = context_from_proto(given.context)
    # Of the run's own configuration and bundle nothing is taken over: they are the submitter's.
    context.run_config = UserConfig(settings(home, job))
    status = SubStatus.FAILED
    try:
        from server.app import app

        app(grid=grid, context=context)
        status = SubStatus.COMPLETED
    except MamaError as error:
        logger.error("%s", error)
    except Exception:
        logger.exception("the ServerApp has failed")
    client.PushTaskOutput(PushTaskOutputRequest(sub_status=status))
    grid.close()


def settings(home: Home, job: Job) -> dict[str, str | int]:
    """Return the run configuration of a job's ServerApp."""
    sites = len(read_roster(home).active)
    return {
        "out": str(job.out),
        "expected-sites": sites,
        "sites-at-once": sites,
        "rehearse": int(job.kind == "rehearsal"),
        "roster": str(home.roster),
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for noisy in ("flwr", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Flower interrupts the process of a task that was withdrawn; a shell's background job would
    # ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start_parent_process_monitor(os.getppid())
    try:
        main(Home(Path(sys.argv[1])), int(sys.argv[2]), sys.stdin.read())
    except MamaError as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, RunNotRunningException):
        sys.exit("withdrawn")
