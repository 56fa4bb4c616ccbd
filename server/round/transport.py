"""Tasks and answers as Flower messages, and Flower's errors for undelivered ones."""

from collections.abc import Iterator
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from mama.errors import ProtocolError
from mama.exchange.codes import ErrorCode as Code
from mama.exchange.message_size import most_bytes
from mama.exchange.protocol import WAVES, Answer, Task
from server.cohort.signers import Signers
from server.flower.answer_size import room_for
from server.flower.replies import LostError
from server.round.state import Outcome

FLOWER_TYPES = {
    "describe": MessageType.QUERY,
    "statistics": MessageType.QUERY,
    "rehearse": MessageType.QUERY,
    "train": MessageType.TRAIN,
    "evaluate": MessageType.EVALUATE,
    "finish": MessageType.QUERY,
} | dict.fromkeys(WAVES, MessageType.QUERY)
# The message or its node is gone: the task was not done, or its answer is lost, and is worth asking
# for again.
LOST = {
    ErrorCode.MESSAGE_UNAVAILABLE: "the message was lost",
    ErrorCode.NODE_UNAVAILABLE: "the site's connection was lost",
    ErrorCode.CLIENT_APP_CRASHED: "the site's process ended while it worked",
}
# What Flower raises while it puts a message together from whatever a site sent.
UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
    *(DecodeError, MemoryError),
)
# How long Flower keeps a message after the deadline of its task, in seconds.
GRACE_S = 60.0


@dataclass
class Reply:
    """Delivered message: an answer with its tensors, or a one-line `problem`.

    `lost` marks a problem worth a retry.
    """

    answer: Answer | None = None
    payload: bytes = b""
    bytes_up: int = 0
    problem: str = ""
    lost: bool = False

    @property
    def outcome(self) -> Outcome:
        """Outcome of the task that it answers."""
        if self.lost:
            return Outcome.LOST
        if self.answer is None:
            return Outcome.PROBLEM
        return Outcome.NO_MODEL if self.answer.status == Code.NO_MODEL else Outcome.ANSWER


class Transport:
    """Sends tasks to nodes and fetches answers, each by itself so that one at most is in memory.

    Args:
        signers: check of signatures; an answer that fails it yields a problem and nothing else.
        values: of the run's largest update. What a site sends is bounded by what the answer to its
        task can hold.
    """

    def __init__(self, grid: Grid, signers: Signers, values: int):
        self._grid, self.signers = grid, signers
        self._update_bytes = most_bytes(values)

    def nodes(self) -> set[int]:
        """Return the connected nodes."""
        return set(self._grid.get_node_ids())

    def push(self, node: int, task: Task, payload: bytes, wait_s: float) -> str | None:
        """Send a task; return the name its answer is fetched by, None if Flower did not accept it.

        Args:
            node: of the receiver.
            task: to send.
            payload: tensors of the task, as a block.
            wait_s: seconds to wait for the answer; Flower keeps it GRACE_S longer.
        """
        block = Array(dtype="uint8", shape=(len(payload),), stype="safetensors", data=payload)
        content = RecordDict(
            {
                "header": ConfigRecord({"json": task.encode()}),
                "payload": ArrayRecord({"tensors": block}),
            }
        )
        message = Message(
            content,
            node,
            FLOWER_TYPES[task.kind],
            ttl=wait_s + GRACE_S,
            group_id=str(task.round),
        )
        names = list(self._grid.push_messages([message]))
        return names[0] if names else None

    def pull(self, name: str, task: Task) -> Iterator[Reply]:
        """Yield the replies to a task's message; several if it was delivered twice."""
        try:
            with room_for(task, self._update_bytes):
                arrived = list(self._grid.pull_messages([name]))
        except LostError:
            yield Reply(problem=LOST[ErrorCode.MESSAGE_UNAVAILABLE], lost=True)
            return
        except ProtocolError as error:
            yield Reply(problem=str(error))
            return
        except UNREADABLE as error:
            # A site can send Flower pieces that make no message; the one of this name is gone all
            # the same.
            yield Reply(problem=f"what came is no message ({type(error).__name__})")
            return
        while arrived:
            # No local name keeps the message alive while its reply is processed.
            yield _reply(arrived.pop(0), task, self.signers)


def _reply(message: Message, task: Task, signers: Signers) -> Reply:
    if message.has_error():
        # The error's text may be the site's own exception: only its number is repeated.
        code = message.error.code
        problem = LOST.get(code, f"Flower error {code}")
        return Reply(problem=problem, lost=code in LOST)
    try:
        # Not through `config_records` and `array_records`: those make cycles, and with them a
        # message stays in memory until the garbage collector comes by.
        header, payload = message.content.get("header"), message.content.get("payload")
        text = header.get("json") if isinstance(header, ConfigRecord) else None
        block = payload.get("tensors") if isinstance(payload, ArrayRecord) else None
        data = block.data if block is not None else b""
        answer = Answer.decode(text)
        signature = header.get("signature") if isinstance(header, ConfigRecord) else None
        signers.require(answer, task, str(text), data, signature)
    except ProtocolError as error:
        return Reply(problem=str(error))
    return Reply(answer, data, len(data) + len(str(text)))
