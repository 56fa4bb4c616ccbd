"""Room for an answer's tensors: as many bytes as an honest site could send to that task."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mama.exchange.coding import MAX_BYTES
from mama.exchange.protocol import MAX_HEADER, Task

# Of the message that is pulled now. The Grid's own calls do not say what it answers.
ROOM: ContextVar[int] = ContextVar("room", default=MAX_BYTES)
UPDATES = ("rehearse", "train", "mask")
FIGURES = ("describe", "evaluate", "finish")


@contextmanager
def room_for(task: Task, update_bytes: int) -> Iterator[None]:
    """Bound what is pulled meanwhile by what the answer to a task can hold.

    Args:
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
