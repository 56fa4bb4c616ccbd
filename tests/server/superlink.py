"""SuperLink's runtime API in memory, behind Flower's HttpGrid; a test releases the pieces."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from types import SimpleNamespace

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from mama.exchange.protocol import Answer, Task
from server.cohort.signers import Signers
from server.round.transport import Transport

TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
VALUES = 2**20
MIB = 2**20


# Its kind, the places of its children among the pieces before it, and its body, which may depend on
# their names.
Piece = tuple[bytes, Sequence[int], bytes | Callable[[list[str]], bytes]]


class Parts:
    """A reply in pieces, which a test may forge: the tree, and each piece by its name."""

    def __init__(self, message: Message):
        self._announce(get_object_tree(message))
        objects = get_all_nested_objects(message)
        self.pieces = {name: bytes(one.deflate()) for name, one in objects.items()}

    @classmethod
    def forged(cls, *pieces: Piece) -> "Parts":
        """A message of these pieces, itself the last, each after those that it is made of."""
        made = object.__new__(cls)
        made.pieces = {}
        trees: list[ObjectTree] = []
        for kind, children, make_body in pieces:
            names = [trees[place].object_id for place in children]
            body = make_body if isinstance(make_body, bytes) else make_body(names)
            content = b"%s %s %d\0%s" % (kind, ",".join(names).encode(), len(body), body)
            name = sha256(content).hexdigest()
            made.pieces[name] = content
            trees.append(ObjectTree(object_id=name, children=[trees[p] for p in children]))
        made._announce(trees[-1])
        return made

    def _announce(self, tree: ObjectTree) -> None:
        self.tree = tree
        self.message = message_to_proto(Message(RecordDict(), 0, "query"))
        self.message.metadata.message_id = tree.object_id


class SuperLink:
    """Announces each reply once, as Flower's does.

    Args:
        ready: by a task's message and a piece, whether the piece has come.
    """

    def __init__(self, ready: Callable[[str, str], bool] = lambda task, piece: True):
        self.ready = ready
        self.replies: dict[str, Parts] = {}
        self.pulled: list[str] = []
        self._announced: dict[str, tuple[str, Parts]] = {}
        self.grid = HttpGrid(token="token")
        self.grid.set_run(Run.create_empty(run_id=1))
        self.grid._client = self  # type: ignore[assignment]
        self.post = Transport(self.grid, Signers(), VALUES)

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802
        came = [
            (name, self.replies.pop(name)) for name in request.message_ids if name in self.replies
        ]
        for name, parts in came:
            self._announced[parts.tree.object_id] = name, parts
        return PullAppMessagesResponse(
            messages_list=[parts.message for _, parts in came],
            message_object_trees=[parts.tree for _, parts in came],
        )

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802
        for name, parts in self._announced.values():
            content = parts.pieces.get(request.object_id)
            if content is not None:
                if not self.ready(name, request.object_id):
                    return PullObjectResponse(object_found=True)
                self.pulled.append(request.object_id)
                return PullObjectResponse(
                    object_found=True, object_available=True, object_content=content
                )
        return PullObjectResponse()

    def ConfirmMessageReceived(self, request: ConfirmMessageReceivedRequest) -> SimpleNamespace:  # noqa: N802
        del self._announced[request.message_object_id]
        return SimpleNamespace()

    @property
    def kept(self) -> int:
        """Replies that were announced and not yet confirmed or given up."""
        return len(self._announced)


def task_of(kind: str, site: str = "alder") -> Task:
    return Task(
        run="r",
        round=1,
        task=f"{kind}-1-{site}",
        kind=kind,  # type: ignore[arg-type]
        experiment="{}",
        experiment_hash="0" * 64,
    )


def reply_to(task: Task, data: bytes = b"", site: str = "alder") -> Message:
    """A whole answer as a site's app packs it."""
    said = Answer(run=task.run, round=task.round, task=task.task, site=site, status="ok")  # type: ignore[arg-type]
    block = Array("uint8", (len(data),), "safetensors", data)
    header = ConfigRecord({"json": said.encode(), "signature": ""})
    content = RecordDict({"header": header, "payload": ArrayRecord({"tensors": block})})
    return Message(content, 1, "query")


def array_body(places: list[int], length: int = 1) -> bytes:
    """The body of an array's piece; arrays of other lengths are other pieces."""
    body = {"dtype": "uint8", "shape": [length], "stype": "raw", "arraychunk_ids": places}
    return json.dumps(body).encode()


def naming(*keys: str) -> Callable[[list[str]], bytes]:
    """Body of a record that has its children by these keys, or by their numbers without."""
    return lambda names: json.dumps(
        dict(zip(keys or map(str, range(len(names))), names, strict=True))
    ).encode()
