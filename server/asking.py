"""Ask sites over Flower's Grid and collect their answers until all came or the deadline passed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from mama.errors import ProtocolError
from mama.exchange.protocol import Answer, Task

FLOWER_TYPES = {
    "describe": MessageType.QUERY,
    "rehearse": MessageType.QUERY,
    "train": MessageType.TRAIN,
    "evaluate": MessageType.EVALUATE,
    "finish": MessageType.QUERY,
}


@dataclass(frozen=True)
class Reply:
    """What came back from a node: an answer with its tensors, or a one-line `problem`."""

    node: int
    answer: Answer | None
    payload: bytes
    bytes_up: int
    bytes_down: int
    problem: str = ""


def ask(
    grid: Grid, tasks: dict[int, Task], payloads: dict[int, bytes], deadline_s: float
) -> Iterator[Reply]:
    """Push one task a node and yield replies as they arrive; silent nodes are simply absent.

    Args:
        tasks: by node id.
        payloads: the tensors that go with each task, by node id.
        deadline_s: seconds to wait for all of them.
    """
    end = time.monotonic() + deadline_s
    waiting: dict[str, int] = {}
    for node, task in tasks.items():
        pushed = list(grid.push_messages([_message(node, task, payloads[node], deadline_s)]))
        if pushed:
            waiting[pushed[0]] = node
    while waiting:
        arrived = list(grid.pull_messages(list(waiting)))
        for message in arrived:
            if message.metadata.reply_to_message_id in waiting:
                node = waiting.pop(message.metadata.reply_to_message_id)
                yield _reply(node, message, len(payloads[node]) + len(tasks[node].encode()))
        if time.monotonic() > end:
            return
        if not arrived:
            time.sleep(0.1)


def _message(node: int, task: Task, payload: bytes, deadline_s: float) -> Message:
    block = Array(dtype="uint8", shape=(len(payload),), stype="safetensors", data=payload)
    content = RecordDict(
        {
            "header": ConfigRecord({"json": task.encode()}),
            "payload": ArrayRecord({"tensors": block}),
        }
    )
    return Message(
        content, node, FLOWER_TYPES[task.kind], ttl=deadline_s + 60, group_id=str(task.round)
    )


def _reply(node: int, message: Message, bytes_down: int) -> Reply:
    if message.has_error():
        return Reply(node, None, b"", 0, bytes_down, f"Flower error {message.error.code}")
    try:
        header = message.content.config_records.get("header", ConfigRecord()).get("json")
        block = message.content.array_records.get("payload", ArrayRecord()).get("tensors")
        payload = block.data if block is not None else b""
        answer = Answer.decode(header)
    except ProtocolError as error:
        return Reply(node, None, b"", 0, bytes_down, str(error))
    return Reply(node, answer, payload, len(payload) + len(str(header)), bytes_down)
