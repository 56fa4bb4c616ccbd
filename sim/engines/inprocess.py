"""Flower Grid without a network: messages are serialised, and sites take turns in this process."""

import logging
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

logger = logging.getLogger("fedmama.sim")
CLIENT_RAISED = 2  # Flower's error code


class InProcessGrid(Grid):
    """Grid that runs a site's ClientApp when its answer is pulled, one per pull, in push order.

    Every message is converted to its wire format in both directions, which tests serialisation.

    Args:
        client_app: the app of all sites.
        site_files: one per site; nodes are numbered from 1 in this order.
    """

    def __init__(self, client_app: ClientApp, site_files: list[Path]):
        self._client_app = client_app
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config=UserConfig({"site-file": str(path)}),
                state=RecordDict(),
                run_config=UserConfig(),
            )
            for node, path in enumerate(site_files, start=1)
        }
        self._pushed: dict[str, bytes] = {}
        # Messages take the sender's identity from here, as in Flower's own engines.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0

    def set_run(self, run: Run) -> None:
        """Ignore the run: this grid has a single one."""

    @property
    def run(self) -> Run:
        """Single run of this grid."""
        return Run.create_empty(run_id=1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Serialise the messages and keep them until their answers are pulled."""
        names = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = name = uuid4().hex
            self._pushed[name] = message_to_proto(message).SerializeToString()
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Compute and return the answer to the first pending of these messages."""
        wanted = set(message_ids)
        for name in [name for name in self._pushed if name in wanted][:1]:
            message = message_from_proto(MessageProto.FromString(self._pushed.pop(name)))
            try:
                reply = self._client_app(message, self._contexts[message.metadata.dst_node_id])
            except Exception:
                logger.exception("node %d", message.metadata.dst_node_id)
                reply = Message(Error(CLIENT_RAISED, "the ClientApp raised"), reply_to=message)
            return [
                message_from_proto(
                    MessageProto.FromString(message_to_proto(reply).SerializeToString())
                )
            ]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push all messages and pull all answers; there are no timeouts in one process."""
        return [
            reply for name in self.push_messages(messages) for reply in self.pull_messages([name])
        ]


def run_inprocess(
    server_app: ServerApp,
    client_app: ClientApp,
    site_files: list[Path],
    run_config: dict[str, str | int],
) -> None:
    """Run a ServerApp over sites that take turns in this process."""
    context = Context(
        run_id=1,
        node_id=0,
        node_config=UserConfig(),
        state=RecordDict(),
        run_config=UserConfig(run_config),
    )
    server_app(InProcessGrid(client_app, site_files), context)
