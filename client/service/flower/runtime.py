"""The node's runtime API, from which the site's guard takes tasks instead of Flower's executor.

Uses `flwr.supercore.runtime` and `flwr.supernode.runtime.run_clientapp`, flwr 1.41 and 1.42.
Flower's executor would install and run the code that comes with a run; the guard runs the site's
own. `OneCallAConnection` patches the connection: node and guard both drop one that is idle for 5 s,
and a call at that moment is lost with the answer. No upstream thread is known. Without it,
tests/client/service/flower/test_runtime.py fails.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

from client.service.flower.intake import UNREADABLE
from mama.system.files import write_bytes

logger = logging.getLogger("fedmama.guard")
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"


class Assignment:
    """One task: its message, and the hash of its run's bundle, which is never opened."""

    def __init__(self, client: RuntimeHttpClient, *, for_client_app: bool):
        self._client = client
        self.for_client_app = for_client_app
        self.message, self.context, self.run, fab = pull_task_input(client)
        self.bundle = hashlib.sha256(fab.content).hexdigest()

    def reply(self, message: Message) -> None:
        """Hand the answer to the node."""
        push_message(self._client, message, self.context)
        _end_task(self._client, SubStatus.COMPLETED)

    def refuse(self, reason: str, *, bundle: bool = False) -> None:
        """Answer with one of Flower's error codes; `bundle` if the run's bundle is the reason."""
        code = ErrorCode.INVALID_FAB if bundle else ErrorCode.CLIENT_APP_RAISED_EXCEPTION
        push_message(
            self._client, Message(Error(code, reason), reply_to=self.message), self.context
        )
        _end_task(self._client, SubStatus.FAILED, reason)


class Runtime:
    """The node's runtime API on this machine.

    Args:
        address: host:port of the node's own service.
        secret: the secret that node and guard share.
        unfinished: file with the token of the task at work, which a guard that was killed and
            started again gives up at once; the node would wait a minute.
    """

    def __init__(self, address: str, secret: bytes, unfinished: Path):
        self._address, self._unfinished = address, unfinished
        self._asking = self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={ACQUIRE})
        )

    @contextmanager
    def next(self) -> Iterator[Assignment | None]:
        """Yield the next task or None; tasks for others than ClientApps too, to be refused.

        Raises:
            httpx.HTTPError: the node does not answer.
        """
        self._give_up_unfinished()
        # Of every type, because the node does nothing else while one waits.
        answer = self._asking.AcquireTask(AcquireTaskRequest(supported_task_types=list(TaskType)))
        if not answer.HasField("task") or not answer.token:
            yield None
            return
        with suppress(OSError):  # on a full disk the task answers with its own error
            write_bytes(self._unfinished, answer.token.encode(), private=True)
        client = self._client(RuntimeTokenHttpInterceptor(answer.token))
        heartbeat = HeartbeatSender(_heartbeat(client))
        heartbeat.start()
        try:
            for_client_app = answer.task.type == TaskType.CLIENT_APP
            try:
                assignment = Assignment(client, for_client_app=for_client_app)
            except (ObjectPullError, RuntimeError, *UNREADABLE) as error:
                # The node gave the message up, or it is none.
                logger.error("a task could not be read (%s)", type(error).__name__)
                _end_task(client, SubStatus.FAILED, "the task could not be read")
                self._unfinished.unlink(missing_ok=True)
                yield None
                return
            yield assignment
            self._unfinished.unlink(missing_ok=True)
        finally:
            heartbeat.stop()
            client.close()

    def _give_up_unfinished(self) -> None:
        """End a task whose guard was killed or did not reach the node."""
        if not self._unfinished.exists():
            return
        token = self._unfinished.read_bytes()
        if token.isalnum():  # else it is damaged
            interceptor = RuntimeTokenHttpInterceptor(token.decode())
            with closing(self._client(interceptor)) as client:
                _end_task(client, SubStatus.FAILED, "the site's guard was killed")
            logger.warning("gave up the task at which an earlier guard was killed")
        self._unfinished.unlink()

    def _client(self, authentication: Any) -> RuntimeHttpClient:
        version = RuntimeVersionHttpInterceptor(component_name="flwr-clientapp")
        interceptors = [OneCallAConnection(), version, authentication]
        return RuntimeHttpClient.from_server_address(self._address, True, None, interceptors)


def _end_task(client: RuntimeHttpClient, status: str, details: str = "") -> None:
    """Report the end of a task to the node.

    Raises:
        httpx.TransportError: the node does not answer.
    """
    with suppress(httpx.HTTPStatusError):  # it is over already, or was a node's before this one
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))


class OneCallAConnection:
    """Interceptor that closes the connection to the node after each call."""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Make the call with a header that ends the connection."""
        context.request.headers["connection"] = "close"
        return call_next(context)


def _heartbeat(client: RuntimeHttpClient) -> Callable[[], bool]:
    def beat() -> bool:
        # Flower's own sends SIGINT when the task is withdrawn; here the work is finished and its
        # answer ignored.
        with suppress(httpx.HTTPError):
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        return True

    return beat
