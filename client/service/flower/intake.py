"""Intake of the coordinator's messages with a size limit that applies before memory is used.

Replaces private functions of Flower (flwr 1.41 and 1.42).
"""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.runtime import run_clientapp
from google.protobuf.message import DecodeError

from mama.errors import ProtocolError
from mama.exchange.message_size import MessageSize

logger = logging.getLogger("fedmama.guard")
# A message is announced before its content is available; Flower retries after 1, 2, 4, 8 s.
EAGER: dict[str, Any] = {"initial_backoff": 0.05, "backoff_cap": 1.0, "max_tries_per_object": None}
# Exceptions of Flower and `pull_task` on arbitrary content from a coordinator.
UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
    *(DecodeError, MemoryError, ProtocolError),
)
Pull = Callable[[str], bytes]


def pull_within(room: int) -> Callable[..., dict[str, bytes]]:
    """Return Flower's `pull_objects` for a message with at most `room` bytes of arrays.

    Raises:
        ProtocolError: the arrays are larger, or everything else is larger than a header.
    """

    def pull(object_ids: list[str], pull_object_fn: Pull, **_: Any) -> dict[str, bytes]:
        size, lock = MessageSize(room), Lock()

        def counted(name: str) -> bytes:
            content = pull_object_fn(name)
            with lock:
                size.add(name, content)
            return content

        contents = pull_objects(size.distinct(object_ids), counted, **EAGER)
        size.require_room()
        return contents

    return pull


def take_tasks_within(room_of: Callable[[object], int]) -> None:
    """Limit this process to tensors of the size that a task can have.

    Args:
        room_of: returns the limit in bytes for a task's header.
    """
    run_clientapp.pull_and_inflate_object_from_tree = partial(  # type: ignore[assignment]
        pull_task, room_of=room_of
    )


def pull_task(
    tree: ObjectTree,
    pull_object: Pull,
    confirm: Callable[[str], None],
    *,
    room_of: Callable[[object], int],
    **_: Any,
) -> Message:
    """Return a task's message, without its tensors if they exceed the task's limit.

    The app then answers with an error. Replaces Flower's `pull_and_inflate_object_from_tree`.

    Args:
        tree: ids of the message's objects.
        pull_object: returns an object's content by its id.
        confirm: called with the message's id once it was received.
        room_of: returns the limit in bytes for a task's header.

    Raises:
        ProtocolError: the object is not a message, or its header is too large. Flower raises the
            others of `UNREADABLE`.
    """
    records = pull_within(0)(_records(tree), pull_object)
    header = _header(records, tree)
    try:
        names = (piece.object_id for piece in iterate_object_tree(tree))
        contents = pull_within(room_of(header.get("json")))(names, pull_object)
    except ProtocolError as error:
        logger.error("a task's tensors were rejected: %s", error)
        contents = None
    confirm(tree.object_id)
    if contents is None:
        content = RecordDict({"header": header})
        return Message.inflate(records[tree.object_id], {tree.children[0].object_id: content})
    message = inflate_object_from_contents(tree.object_id, contents)
    if not isinstance(message, Message):
        raise ProtocolError("the received object is not a message")
    return message


def _records(tree: ObjectTree) -> Iterator[str]:
    """Yield the ids of the message, its content and the content's records."""
    yield tree.object_id
    for content in tree.children:
        yield content.object_id
        yield from (record.object_id for record in content.children)


def _header(records: dict[str, bytes], tree: ObjectTree) -> ConfigRecord:
    if len(tree.children) != 1:
        raise ProtocolError("the received object is not a message")
    names = json.loads(records[tree.children[0].object_id].partition(b"\0")[2])
    return ConfigRecord.inflate(records[names["header"]])
