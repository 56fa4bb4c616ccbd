"""What an answer must be before it counts. It comes from outside, so nothing about it is taken on trust."""

from collections.abc import Mapping

from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.block import Shape
from mama.exchange.coding import decode
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Answer, Task
from server.aggregation.norm import update_norm

# The length of an update: far above any honest one, and so small that no weighted sum of them overflows float32.
MAX_NORM = 1e6
# A hospital may ingest more studies between two rounds, but not many times what it had.
GROWTH = 2


def check_answer(answer: Answer, task: Task, site: str | None = None) -> None:
    """Refuse an answer to another task, or from another site than the one asked.

    Raises:
        ProtocolError: names what differs.
    """
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
    # A wave of secure aggregation answers in its payload.
    if payload.get(task.kind, True) is None:
        raise ProtocolError("answer holds nothing", where=answer.site)


def check_update(payload: bytes, shapes: Mapping[str, Shape]) -> Arrays:
    """Decode an update and check its names and shapes against the global model's, and that it is finite.

    Of an fp32 block the arrays are read-only views.

    Raises:
        ProtocolError: names the first tensor that differs.
    """
    return decode(payload, shapes)


def check_metrics(metrics: TrainingMetrics, planned: int, studies_before: int | None) -> None:
    """Refuse figures that no honest site has: an update must not count by work that was not done.

    Args:
        planned: local steps of a round.
        studies_before: what the site said in an earlier round; None before its first.

    Raises:
        ProtocolError: names what is impossible.
    """
    if not 0 < metrics.steps <= planned:
        raise ProtocolError(f"claims {metrics.steps} steps of {planned}")
    if metrics.patients > metrics.studies:
        raise ProtocolError(f"claims {metrics.patients} patients in {metrics.studies} studies")
    if studies_before is not None and metrics.studies > GROWTH * studies_before:
        raise ProtocolError(
            f"claims {metrics.studies} studies, more than {GROWTH} times the {studies_before} of before"
        )


def check_norm(update: Arrays, share: float = 1, usual: float = 0, limit: float = 1) -> float:
    """The update's length had all planned steps been done, after comparing it with the usual one.

    Args:
        share: of the planned steps that were done, above 0.
        usual: the usual length; 0 if it is not known.

    Raises:
        ProtocolError: it is longer than `limit` times the usual one, or beyond all reason.
    """
    norm = update_norm(update) / share
    if not norm <= MAX_NORM:
        raise ProtocolError("update changes the model beyond reason")
    if usual and not norm <= limit * usual:
        raise ProtocolError(f"update is {norm / usual:.3g} times as long as usual, above {limit:g}")
    return norm
