"""What an answer must be before it counts. It comes from outside, so nothing about it is taken on trust."""

from mama.errors import ProtocolError
from mama.exchange.coding import decode
from mama.exchange.protocol import PROTOCOL, Answer, Task
from mama.exchange.tensors import Arrays

# Far above any honest change, and small enough that no weighted sum of updates overflows float32.
MAX_CHANGE = 1e6


def check_answer(answer: Answer, task: Task, site: str | None = None) -> None:
    """Refuse an answer to another task, or from another site than the one asked.

    Raises:
        ProtocolError: names what differs.
    """
    if answer.protocol != PROTOCOL:
        raise ProtocolError("answer is of another protocol version", where=answer.site)
    if answer.status != "ok":
        return
    if (answer.run, answer.round, answer.task) != (task.run, task.round, task.task):
        raise ProtocolError("answer belongs to another task", where=answer.site)
    if site is not None and answer.site != site:
        raise ProtocolError("answer is signed by another site", where=site)
    payload = {
        "describe": answer.description,
        "rehearse": answer.rehearsal,
        "train": answer.training,
        "evaluate": answer.evaluation,
        "finish": answer.final,
    }
    if payload[task.kind] is None:
        raise ProtocolError("answer holds nothing", where=answer.site)


def check_update(payload: bytes, arrays: Arrays) -> Arrays:
    """Decode an update and check names, shapes and size of its values against the global model.

    Of an fp32 block the arrays are read-only views.

    Raises:
        ProtocolError: names the first tensor that differs.
    """
    update = decode(payload, {name: array.shape for name, array in arrays.items()})
    for name, array in update.items():
        if array.max(initial=0) > MAX_CHANGE or array.min(initial=0) < -MAX_CHANGE:
            raise ProtocolError("tensor changes beyond reason", where=name)
    return update
