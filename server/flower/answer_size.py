"""Room for an answer's tensors: as many bytes as an honest site could send to that task."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mama.exchange.codecs.coding import MAX_BYTES
from mama.exchange.protocol import MAX_HEADER, Task

# For the message being pulled: the Grid's own calls do not name the task it answers.
ROOM: ContextVar[int] = ContextVar("room", default=MAX_BYTES)
UPDATES = ("rehearse", "train", "mask")
FIGURES = ("describe", "statistics", "evaluate", "finish")


@contextmanager
def room_for(task: Task, update_bytes: int) -> Iterator[None]:
    """Bound the bytes pulled in this context by the largest answer to a task.

    Args:
        task: whose answer is pulled.
        update_bytes: of the run's largest update.
    """
    if task.kind in UPDATES:
        room = update_bytes
    elif task.kind in FIGURES:
        room = 0
    else:
        room = MAX_HEADER  # a JSON message with a line a peer
    token = ROOM.set(room)
    try:
        yield
    finally:
        ROOM.reset(token)
