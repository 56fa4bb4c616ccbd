"""The site's guard: does the coordinator's tasks with the ClientApp that is installed here, and with nothing else.

It takes the place of Flower's executor, which installs and imports the bundle that comes with a run. Run as a program
by `mama-site start`:

python -I -m client.guard SITE.yaml PORT
"""

import logging
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.user_config import UserConfig

from client.app import app
from client.consent import dataset_of
from client.flower import Assignment, Runtime
from client.installed import require_installed_code
from client.intake import take_tasks_within
from client.outcomes import Outcomes
from client.pace import Pace
from client.room import room_of
from client.service import Record, ServiceFolder
from client.sitefile import load_site
from mama.errors import MamaError, ProtocolError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer
from mama.printable import printable

logger = logging.getLogger("fedmama.guard")
# How long to wait for a node that does not answer, which is being started again.
AWAY_S = 1.0
# Between looks at the data of a site that waits for tasks.
LOOK_S = 30.0


class Guard:
    """Takes tasks from the node one by one and stays warm: code and model are loaded once."""

    def __init__(self, site_file: Path, folder: ServiceFolder):
        self.site_file = site_file
        self.record = Record(folder.guard)
        self.record.put(news=True, process=os.getpid(), dataset=False, working_on=None)
        self._pace, self._outcomes = Pace(0.1, 1.0), Outcomes()
        self._look_at_data()

    def work(self, runtime: Runtime) -> None:
        """One task, if there is one.

        Raises:
            httpx.HTTPError: the node does not answer.
        """
        with runtime.next() as assignment:
            if assignment is None:
                if time.monotonic() > self._looked + LOOK_S:
                    self._look_at_data()
                self._pace.rest()
                return
            metadata = assignment.message.metadata
            doing = f"{metadata.message_type} of round {printable(metadata.group_id, 16)}"
            self.record.put(news=True, working_on=doing)
            try:
                self._do(assignment)
            finally:
                self._pace.worked()
                self.record.put(news=True, working_on=None, **self._told())
                self._look_at_data()

    def _do(self, assignment: Assignment) -> None:
        if not assignment.for_client_app:
            assignment.refuse("this site runs ClientApps only")
        elif not self._allows(assignment.bundle):
            logger.error("refused bundle %s", assignment.bundle)
            assignment.refuse("this site does not allow the run's bundle", bundle=True)
        else:
            # Of the run's own configuration nothing is taken over: it is the submitter's.
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
                # The app answers its own errors. This one is Flower's, before the app was called.
                logger.exception("the task was not understood")
                assignment.refuse(f"the site's guard: {type(error).__name__}")
                self._ended(assignment, ErrorCode.INTERNAL)
            else:
                assignment.reply(reply)
                self._ended(assignment, _status_of(reply))

    def _ended(self, assignment: Assignment, code: str) -> None:
        metadata = assignment.message.metadata
        kind, number = (printable(one, 16) for one in (metadata.message_type, metadata.group_id))
        self._outcomes = self._outcomes.ended(kind, number, code)

    def _told(self) -> dict[str, Any]:
        return {"outcomes": self._outcomes.model_dump()["last"]}

    def _allows(self, bundle: str) -> bool:
        try:
            bundles = load_site(self.site_file).policy.bundles
        except MamaError:
            return True  # the app answers what is wrong with the site file, and does nothing else
        return bundles is None or bundle in bundles

    def _look_at_data(self) -> None:
        """Say whether a task would find the data: it may go, or come, while the service runs."""
        self._looked = time.monotonic()
        reason = None
        try:
            dataset_of(load_site(self.site_file))
        except MamaError as error:
            reason = str(error)
        else:
            self._outcomes = self._outcomes.without(
                frozenset({ErrorCode.SITE_FILE, ErrorCode.NO_DATA})
            )
        self.record.put(
            news=self.record.values.get("outcomes", {}) != self._told()["outcomes"], **self._told()
        )
        if self.record.values.get("reason", "") != reason:
            if reason:
                logger.error("%s", reason)
            self.record.put(news=True, dataset=reason is None, reason=reason)


def _status_of(reply: Message) -> str:
    """The status of the app's answer."""
    try:
        header = reply.content["header"]
        return str(
            Answer.decode(header["json"] if isinstance(header, ConfigRecord) else None).status
        )
    except (ProtocolError, KeyError, ValueError):  # ValueError: one of Flower's own errors
        return ErrorCode.INTERNAL


def main(site_file: Path, port: int) -> None:
    """Work until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    require_installed_code()
    folder = ServiceFolder(load_site(site_file))
    guard = Guard(site_file, folder)
    # At once: to take down all that torch has loaded takes a second, and kill -9 would lose nothing either.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    take_tasks_within(partial(room_of, site_file))
    runtime = Runtime(f"127.0.0.1:{port}", folder.secret.read_bytes().strip(), folder.unfinished)
    while True:
        try:
            guard.work(runtime)
        except httpx.HTTPError as error:
            logger.warning("the node does not answer (%s)", type(error).__name__)
            time.sleep(AWAY_S)
        except MemoryError:
            logger.error("a task was given up: there is no memory for it")
            time.sleep(AWAY_S)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except MamaError as error:
        sys.exit(f"error: {error}")
