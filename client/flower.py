"""Flower's private modules that a site uses, with intake.py, for flwr 1.41 and 1.42; its test has real processes.

Two uses: the node (Flower's SuperNode, with shorter pauses and its calls reported), and the runtime API on which the
node hands out tasks, from which the site's guard takes them instead of Flower's own executor.
"""

import hashlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any, Self

import httpx
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode, Status, SubStatus
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    PushMessagesRequest,
)
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.error import FlowerError
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.object_store import NoObjectInStoreError, ObjectStore
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from flwr.supernode.nodestate.in_memory_nodestate import (
    CLIENT_APP_CRASHED_ERROR,
    InMemoryNodeState,
)
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

from client.enrolment import own_key
from client.intake import UNREADABLE, pull_within
from client.pace import NodePauses
from client.sitefile import CoordinatorConfig
from client.tls import context_for
from mama.files import write_bytes
from mama.printable import printable

logger = logging.getLogger("fedmama.guard")
# What `Report` is told of a call to the coordinator: its path, the node's id once it is known, and what went wrong.
Report = Callable[[str, int | None, str | None], None]
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
ACTIVATE = "/activate-node"
NOT_ADMITTED = "the coordinator does not admit this key: not enrolled, or revoked"
# How long a node that was killed stays away after its goodbye. In this time the server, which looks ten times a
# second, sees that the task it had is lost and can send it again; Flower itself would refuse the node for a minute.
ABSENCE_S = 10.0
HEARTBEAT_S = 30.0
UNFINISHED = (Status.PENDING, Status.STARTING, Status.RUNNING)
# The calls by which a node takes a message's content.
OF_A_MESSAGE = ("/pull-object", "/confirm-message-received")
SEND = start_client_internal._push_messages


def run_node(arguments: list[str], context: SSLContext, report: Report, room: int) -> None:
    """Flower's SuperNode in this process, until it is told to stop.

    Args:
        arguments: those of `flower-supernode`.
        context: for the connection to the coordinator; Flower's own cannot present a certificate.
        report: told of every call to the coordinator.
        room: bytes of tensors that a task can bring at most; one that brings more is dropped.
    """
    pauses, repeats = NodePauses(), _Repeats()

    class ReportingClient(FleetHttpClient):
        @classmethod
        def from_server_address(  # type: ignore[override]
            cls, address: str, *_: Any, **more: Any
        ) -> Self:
            return cls(f"https://{address}", verify=context, interceptors=more["interceptors"])

        def _unary_unary(self, *, path: str, request: Any, **arguments: Any) -> Any:
            try:
                response = super()._unary_unary(path=path, request=request, **arguments)
            except Exception as error:
                report(path, None, _reason(error, path))
                repeats.failed(request)
                if _run_is_over(error) and path.endswith(OF_A_MESSAGE):
                    raise RunOverError from error
                raise
            node = response.node_id if isinstance(response, ActivateNodeResponse) else None
            report(path, node, None)
            pauses.called(path)
            repeats.answered(request, response)
            return response

    fleet_http_connection.FleetHttpClient = ReportingClient  # type: ignore[misc]
    start_client_internal.time = pauses  # type: ignore[assignment]
    start_client_internal.pull_objects = pull_within(room)
    start_client_internal._push_messages = _send_whole
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()


def _send_whole(state: Any, object_store: ObjectStore, *arguments: Any, **more: Any) -> None:
    """Flower's own, which waits for an answer and sends it, with `_WholeAnswers`."""
    whole: Any = _WholeAnswers(state, object_store)
    SEND(whole, object_store, *arguments, **more)


class _WholeAnswers:
    """The node's state as the part of it sees it that waits for an answer and sends it.

    Flower announces an answer while the guard still hands it over, sends any that is there, and waits for ever for one
    of which a part is. So when a guard dies just then the coordinator waits for the rest, or each answer is taken for
    the one to the next task. Here an answer is taken when it is whole and its task waits, and when the task ended
    without one, this is the answer.
    """

    def __init__(self, state: InMemoryNodeState, store: ObjectStore):
        self._state, self._store = state, store
        # Flower's own answer for a guard that shows no life goes to all tasks of the run, also to one that is at work.
        state._on_task_tokens_expired = lambda tasks: None  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_messages_legacy(self, *, is_reply: bool) -> list[Message]:
        """The answer to the task at work, or none yet; asked for again and again."""
        # First, because an answer is whole before its task ends.
        at_work = {task.run_id for task in self._state.get_tasks(statuses=UNFINISHED)}
        with self._state.lock_msg_store:
            kept = {name: entry.message for name, entry in self._state.msg_store.items()}
            for name, message in kept.items():
                if question := message.metadata.reply_to_message_id:
                    if question not in kept:
                        self.delete_messages(message_ids=[name])
                    elif self._is_whole(name):
                        return [message]
            for message in kept.values():
                metadata = message.metadata
                if not metadata.reply_to_message_id and metadata.run_id not in at_work:
                    return [self._without_answer(message)]
        return []

    def delete_messages(self, *, message_ids: Sequence[str]) -> None:
        """An answer that went out and its task; also other answers to it, and all their pieces."""
        with self._state.lock_msg_store:
            kept = self._state.msg_store.items()
            others = {n for n, e in kept if e.message.metadata.reply_to_message_id in message_ids}
            gone = others.union(message_ids)
            self._state.delete_messages(message_ids=list(gone))
            for name in gone:
                self._store.delete(name)

    def _is_whole(self, name: str) -> bool:
        try:
            tree = self._store.get_object_tree(name)
        except NoObjectInStoreError:  # Flower gave it up, pieces first
            return False
        return all(self._store.get(part.object_id) for part in iterate_object_tree(tree))

    def _without_answer(self, task: Message) -> Message:
        answer = Message(CLIENT_APP_CRASHED_ERROR, reply_to=task)
        answer.metadata.__dict__["_message_id"] = answer.object_id
        self._state._store_generated_message(answer)
        return answer


class _Repeats:
    """Calls of an answer that failed and are made again. The coordinator may have done the first before the connection
    broke, and refuses the second; Flower's node would then leave the rest of an answer unsent that is announced."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def failed(self, request: Any) -> None:
        """Remember a call of which nobody knows whether it was done."""
        self._failed |= self._of_an_answer(request)

    def answered(self, request: Any, response: Any) -> None:
        """Change what the coordinator says to a repeated call into what it would have said to the first."""
        again = self._of_an_answer(request) & self._failed
        if not again:
            return
        self._failed -= again
        if isinstance(response, PushObjectResponse):
            response.stored = True
        elif not response.objects_to_push:
            # It was announced, and the server has asked for its content. Without a name the session is looked up.
            trees = request.message_object_trees
            ids = {node.object_id for tree in trees for node in iterate_object_tree(tree)}
            response.objects_to_push.extend(ids)
            response.session_id = ""

    @staticmethod
    def _of_an_answer(request: Any) -> set[str]:
        if isinstance(request, PushObjectRequest):
            return {request.object_id}
        if isinstance(request, PushMessagesRequest):
            return {message.metadata.message_id for message in request.messages_list}
        return set()


class RunOverError(Exception):
    """The coordinator stopped the run while a message of it was on its way.

    Flower's own exception for it derives from BaseException and passes by the code that would give the message up; the
    task would then wait for its content for two hours, and all others behind it.
    """


def _run_is_over(error: Exception) -> bool:
    return (
        isinstance(error, httpx.HTTPStatusError)
        and error.response.status_code == httpx.codes.FORBIDDEN
    )


def say_goodbye(coordinator: CoordinatorConfig, node: int) -> bool:
    """Tell the coordinator that this site's node is gone, which one that was killed could not; False if it knew."""
    with _fleet(coordinator) as (client, _), suppress(httpx.HTTPError):
        client.DeactivateNode(DeactivateNodeRequest(node_id=node))
        return True
    return False


def may_come_in(coordinator: CoordinatorConfig) -> str | None:
    """Why the coordinator does not admit this key, None if it does: come in and go at once. Not while the node runs."""
    with _fleet(coordinator) as (client, public):
        request = ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_S)
        try:
            node = client.ActivateNode(request).node_id
            client.DeactivateNode(DeactivateNodeRequest(node_id=node))
        except httpx.HTTPError as error:
            return _reason(error, ACTIVATE)
    return None


@contextmanager
def _fleet(coordinator: CoordinatorConfig) -> Iterator[tuple[FleetHttpClient, bytes]]:
    private = own_key(coordinator.key)
    interceptors: list[Any] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(private, private.public_key()),
    ]
    url, context = f"https://{coordinator.address}", context_for(coordinator)
    with FleetHttpClient(url, verify=context, interceptors=interceptors) as client:
        yield client, public_key_to_bytes(private.public_key())


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        code, told = error.response.status_code, FlowerError.from_json(error.response.text)
        if code == httpx.codes.UNAUTHORIZED:
            return (
                "the coordinator refuses this site's signed time: set this machine's clock by NTP"
            )
        if path.endswith(ACTIVATE) and code == httpx.codes.PRECONDITION_FAILED:
            return NOT_ADMITTED
        return printable(told.message) if told else f"HTTP {code}"
    return printable(f"{type(error).__name__}: {error}")


class Assignment:
    """One task of the node's: the message, and the hash of the bundle that came with its run and is never opened."""

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
        """Answer with one of Flower's error codes and a fixed sentence; `bundle`: because of the bundle."""
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
        unfinished: a file that holds the token of the task at work, so that a guard started again after it was killed
            gives it up at once; the node would wait a minute.
    """

    def __init__(self, address: str, secret: bytes, unfinished: Path):
        self._address, self._unfinished = address, unfinished
        self._asking = self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={ACQUIRE})
        )

    @contextmanager
    def next(self) -> Iterator[Assignment | None]:
        """The next task, None when there is none; tasks for others than ClientApps come too, to be refused.

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
        """End the task at which an earlier guard was killed, or this one did not reach the node."""
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
        interceptors = [_OneCallAConnection(), version, authentication]
        return RuntimeHttpClient.from_server_address(self._address, True, None, interceptors)


def _end_task(client: RuntimeHttpClient, status: str, details: str = "") -> None:
    """Tell the node that a task is over; an httpx.TransportError if it does not answer."""
    with suppress(httpx.HTTPStatusError):  # it is over already, or was a node's before this one
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))


class _OneCallAConnection:
    """Has connections to the node closed after each call.

    Node and guard would both drop one that idles after 5 s, and a call that comes just then, after a step of training
    that took so long, is lost, and with it the answer.
    """

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Flower's interface."""
        context.request.headers["connection"] = "close"
        return call_next(context)


def _heartbeat(client: RuntimeHttpClient) -> Callable[[], bool]:
    def beat() -> bool:
        # Flower's own sends SIGINT when the task is withdrawn; here the work is finished and its answer ignored.
        with suppress(httpx.HTTPError):
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        return True

    return beat
