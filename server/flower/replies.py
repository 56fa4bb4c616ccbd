"""Pulling of replies without blocking: each is checked briefly, and taken once complete.

Its size is bounded. A reply is announced before its content has arrived. Flower's own Grid then
polls for the pieces for up to two hours and serves no other site meanwhile. Uses private modules of
flwr 1.41 and 1.42.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.superlink.grid.http_grid import HttpGrid

from mama.errors import ProtocolError
from mama.exchange.message_size import MessageSize
from server.flower.answer_size import ROOM

# A reply without a new piece for this long is given up: the task counts as lost and is sent again.
STALLED_S = 60.0
# A reply that was not requested for this long is dropped.
FORGOTTEN_S = 3600.0
Pull = Callable[[str], bytes]


class LostError(Exception):
    """A reply that was announced and did not come."""


def look_eagerly() -> None:
    """Let the Grids of this process never wait for a reply."""
    replies = Replies()

    def pull_messages(self: HttpGrid, message_ids: Iterable[str]) -> list[Message]:
        return replies.pull_messages(self, message_ids)

    HttpGrid.pull_messages = pull_messages  # type: ignore[method-assign]


@dataclass
class Coming:
    """Reply in transit.

    `names` are those of its pieces, the message itself last; `last` is when a new one was seen.
    """

    names: list[str]
    last: float = field(default_factory=lambda: time.monotonic())
    seen: set[str] = field(default_factory=set)

    def pull(self, pull: Pull, size: MessageSize) -> dict[str, bytes] | None:
        """Return all pieces, None while one is missing.

        Each is pulled twice at most, however slowly they arrive.

        Raises:
            LostError: nothing new came for a while.
            ObjectPullError: a piece is gone.
            ProtocolError: there are more bytes than `size` has room for.
        """
        contents: dict[str, bytes] = {}
        try:
            # The message arrives last; until then one other piece shows progress.
            if self.names[-1] not in self.seen:
                self._take(self.names[-1], pull, size, contents)
            unseen = [name for name in self.names if name not in self.seen]
            for name in [*unseen, *(name for name in self.names if name in self.seen)]:
                if name not in contents:
                    self._take(name, pull, size, contents)
        except ObjectUnavailableError:
            self._look_for_another(pull)
            return None
        return contents

    def _take(self, name: str, pull: Pull, size: MessageSize, contents: dict[str, bytes]) -> None:
        contents[name] = pull(name)
        size.add(name, contents[name])
        self._note(name)

    def _look_for_another(self, pull: Pull) -> None:
        unseen = [name for name in self.names if name not in self.seen]
        with suppress(ObjectUnavailableError):
            for name in unseen[:1]:
                pull(name)
                self._note(name)
        if time.monotonic() > self.last + STALLED_S:
            raise LostError

    def _note(self, name: str) -> None:
        if name not in self.seen:
            self.seen.add(name)
            self.last = time.monotonic()


class Replies:
    """Announced replies, by the message that they answer; the SuperLink announces each once."""

    def __init__(self) -> None:
        self._coming: dict[str, list[Coming]] = {}

    def pull_messages(self, grid: HttpGrid, names: Iterable[str]) -> list[Message]:
        """Stand in for the Grid's own: of these messages' replies those that are whole.

        Raises:
            LostError: a reply does not come.
            ProtocolError: a reply is larger than `ROOM`, or no message.
        """
        found = []
        for name in names:
            for coming in self._coming.pop(name, None) or self._announced(grid, name):
                message = _whole(grid, coming)
                if message is None:
                    self._coming.setdefault(name, []).append(coming)
                else:
                    found.append(message)
        return found

    def _announced(self, grid: HttpGrid, name: str) -> list[Coming]:
        long_ago = time.monotonic() - FORGOTTEN_S
        self._coming = {n: c for n, c in self._coming.items() if c[0].last > long_ago}
        answer = grid._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=[name]))
        return [_coming(tree) for tree in answer.message_object_trees]


def _coming(tree: ObjectTree) -> Coming:
    size, root = MessageSize(ROOM.get()), tree.object_id
    names = size.distinct(piece.object_id for piece in iterate_object_tree(tree))
    return Coming([*(name for name in names if name != root), root])


def _whole(grid: HttpGrid, coming: Coming) -> Message | None:
    client, run = grid._runtime_client, grid.run.run_id
    size = MessageSize(ROOM.get())
    try:
        contents = coming.pull(
            make_pull_object_fn_protobuf(client.PullObject, grid.node, run), size
        )
    except ObjectPullError:
        raise LostError from None
    except (LostError, ProtocolError):
        _confirm(grid, coming)
        raise
    if contents is None:
        return None
    _confirm(grid, coming)
    size.require_room()
    message = inflate_object_from_contents(coming.names[-1], contents)
    if not isinstance(message, Message):
        raise ProtocolError("what came is no message")
    message.metadata.__dict__["_message_id"] = coming.names[-1]
    return message


def _confirm(grid: HttpGrid, coming: Coming) -> None:
    """Let the SuperLink forget the message."""
    grid._runtime_client.ConfirmMessageReceived(
        ConfirmMessageReceivedRequest(
            node=grid.node, run_id=grid.run.run_id, message_object_id=coming.names[-1]
        )
    )
