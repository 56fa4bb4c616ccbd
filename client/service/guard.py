"""The site's guard, which runs the coordinator's tasks only with the installed ClientApp.

It replaces Flower's executor, which installs and imports the bundle that comes with a run. Started
as a program by `mama-site start`:

python -I -m client.service.guard SITE.yaml PORT
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.user_config import UserConfig

from client.app import app
from client.service.flower.intake import take_tasks_within
from client.service.flower.runtime import Assignment, Runtime
from client.service.gpu_watch import GpuWatch
from client.service.installed import require_installed_code
from client.service.outcomes import Outcomes
from client.service.polling import Pace
from client.service.reporter import Reporter
from client.service.status import Record, ServiceFolder
from client.service.task_size import room_of
from client.site.config import load_site
from client.site.dataset import dataset_of
from client.training.tasks import forget_model
from mama.errors import MamaError, ProtocolError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer
from mama.system.logs import printable
from mama.system.sealed import read_if_whole

logger = logging.getLogger("fedmama.guard")
# Pause if the node does not answer because it is being restarted.
AWAY_S = 1.0
# Interval of checks of the data while the site waits for tasks.
LOOK_S = 30.0


class Guard:
    """Worker that runs tasks one by one and keeps code and model loaded between them."""

    def __init__(self, site_file: Path, folder: ServiceFolder):
        self.site_file = site_file
        self.record = Record(folder.guard)
        self.gpu = GpuWatch(expected=bool(read_if_whole(folder.guard).get("gpu_expected")))
        self.record.put(
            news=True,
            process=os.getpid(),
            dataset=False,
            working_on=None,
            gpu_expected=self.gpu.expected,
        )
        self._pace, self._outcomes = Pace(0.1, 1.0), Outcomes()
        self._reports = Reporter(site_file, forget_model)
        self._look()

    def work(self, runtime: Runtime) -> None:
        """Run the next task, if there is one.

        Raises:
            httpx.HTTPError: the node does not answer.
        """
        with runtime.next() as assignment:
            if assignment is None:
                if time.monotonic() > self._looked + LOOK_S:
                    self._look()
                self._reports.go_on()
                self._pace.rest()
                return
            self._reports.stop()
            metadata = assignment.message.metadata
            doing = f"{metadata.message_type} of round {printable(metadata.group_id, 16)}"
            self.record.put(news=True, working_on=doing)
            try:
                self._do(assignment)
            finally:
                self._pace.worked()
                self._reports.wait()
                self.record.put(news=True, working_on=None, **self._recorded_outcomes())
                self._look()

    def room(self, header: object) -> int:
        """Return the limit on a task's tensors in bytes.

        A report program is stopped first, since the model that determines the limit needs memory.
        """
        self._reports.stop()
        return room_of(self.site_file, header)

    def _do(self, assignment: Assignment) -> None:
        if not assignment.for_client_app:
            assignment.refuse("this site runs ClientApps only")
        elif not self._allows(assignment.bundle):
            logger.error("refused bundle %s", assignment.bundle)
            assignment.refuse("this site does not allow the run's bundle", bundle=True)
        else:
            # The run's own configuration is ignored: the submitter controls it.
            context = Context(
                run_id=assignment.message.metadata.run_id,
                node_id=assignment.message.metadata.dst_node_id,
                node_config=UserConfig({"site-file": str(self.site_file)}),
                state=RecordDict(),
                run_config=UserConfig(),
            )
            try:
                reply = app(assignment.message, context)
            except Exception as error:
                # The app answers its own errors. This one is Flower's, before the app is called.
                logger.exception("the task could not be read")
                assignment.refuse(f"the site's guard: {type(error).__name__}")
                self._ended(assignment, ErrorCode.INTERNAL)
            else:
                answer = _answer_of(reply)
                if answer and answer.final:
                    # Before the reply: if the guard dies between the two, the task is re-sent.
                    self._reports.add(answer.run)
                assignment.reply(reply)
                self._ended(assignment, answer.status if answer else ErrorCode.INTERNAL)

    def _ended(self, assignment: Assignment, code: str) -> None:
        metadata = assignment.message.metadata
        kind, number = (printable(one, 16) for one in (metadata.message_type, metadata.group_id))
        self._outcomes = self._outcomes.ended(kind, number, code)

    def _recorded_outcomes(self) -> dict[str, Any]:
        return {"outcomes": self._outcomes.model_dump()["last"]}

    def _allows(self, bundle: str) -> bool:
        try:
            bundles = load_site(self.site_file).policy.bundles
        except MamaError:
            return True  # the app then answers with the error in the site file
        return bundles is None or bundle in bundles

    def _look(self) -> None:
        """Record the availability of data and GPU, which may change at any time."""
        self._looked = time.monotonic()
        self._look_at_gpu()
        self._look_at_data()

    def _look_at_gpu(self) -> None:
        try:
            device = load_site(self.site_file).device
        except MamaError:
            return  # `_look_at_data` records the reason
        reason = self.gpu.look(device)
        seen = {"gpu_expected": self.gpu.expected, "gpu_reason": reason}
        if reason and self.record.values.get("gpu_reason") != reason:
            logger.error("%s", reason)
        self.record.put(news=self.record.values | seen != self.record.values, **seen)

    def _look_at_data(self) -> None:
        reason = None
        try:
            dataset_of(load_site(self.site_file))
        except MamaError as error:
            reason = str(error)
        else:
            self._outcomes = self._outcomes.without(
                frozenset({ErrorCode.SITE_FILE, ErrorCode.NO_DATA})
            )
        recorded = self._recorded_outcomes()
        news = self.record.values.get("outcomes", {}) != recorded["outcomes"]
        self.record.put(news=news, **recorded)
        if self.record.values.get("reason", "") != reason:
            if reason:
                logger.error("%s", reason)
            self.record.put(news=True, dataset=reason is None, reason=reason)


def _answer_of(reply: Message) -> Answer | None:
    """Return the app's answer, or None if the reply contains none."""
    try:
        header = reply.content["header"]
        return Answer.decode(header["json"] if isinstance(header, ConfigRecord) else None)
    except (ProtocolError, KeyError, ValueError):  # ValueError: one of Flower's own errors
        return None


def main(site_file: Path, port: int) -> None:
    """Run tasks until SIGTERM, or until a GPU that was unavailable returns."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    require_installed_code()
    folder = ServiceFolder(load_site(site_file))
    guard = Guard(site_file, folder)
    # Immediately: an orderly exit takes a second with torch loaded, and kill -9 loses nothing.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    take_tasks_within(guard.room)
    runtime = Runtime(f"127.0.0.1:{port}", folder.secret.read_bytes().strip(), folder.unfinished)
    while not guard.gpu.returned:
        try:
            guard.work(runtime)
        except httpx.HTTPError as error:
            logger.warning("the node does not answer (%s)", type(error).__name__)
            time.sleep(AWAY_S)
        except MemoryError:
            logger.error("a task was dropped: there is not enough memory for it")
            time.sleep(AWAY_S)
    # CUDA's first result is final for a process; the supervisor starts another.
    logger.info("the GPU is back; the guard restarts to use it")
    os._exit(0)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except MamaError as error:
        sys.exit(f"error: {error}")
