"""Validation of answers, which come from outside and are never trusted."""

from collections.abc import Mapping

from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import Shape
from mama.exchange.codecs.coding import decode
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Answer, Task
from server.aggregation.norm import update_norm

# The length of an update: far above any honest one, and so small that no weighted sum of them
# overflows float32.
MAX_NORM = 1e6
# A hospital may ingest more studies between two rounds, but not many times what it had.
GROWTH = 2


def check_answer(answer: Answer, task: Task, site: str | None = None) -> None:
    """Refuse an answer to another task, or from another site than the expected one.

    Raises:
        ProtocolError: a difference; the message names it.
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
    """Decode an update; check that it is finite, with the names and shapes of the global model.

    The arrays of an fp32 block are read-only views.

    Raises:
        ProtocolError: names the first tensor that differs.
    """
    return decode(payload, shapes)


def check_metrics(metrics: TrainingMetrics, planned: int, studies_before: int | None) -> None:
    """Refuse figures that no honest site has: they give the weight of its update.

    Args:
        metrics: of the site's training.
        planned: local steps of a round.
        studies_before: number of studies the site reported in an earlier round; None before that.

    Raises:
        ProtocolError: a figure is impossible; the message names it.
    """
    if not 0 < metrics.steps <= planned:
        raise ProtocolError(f"claims {metrics.steps} steps of {planned}")
    if metrics.patients > metrics.studies:
        raise ProtocolError(f"claims {metrics.patients} patients in {metrics.studies} studies")
    if studies_before is not None and metrics.studies > GROWTH * studies_before:
        raise ProtocolError(
            f"claims {metrics.studies} studies, more than {GROWTH} times the {studies_before} "
            "of before"
        )


def check_norm(update: Arrays, share: float = 1, usual: float = 0, limit: float = 1) -> float:
    """Check an update's norm, scaled to all planned steps, against the usual norm; return it.

    Args:
        update: of the model.
        share: of the planned steps that were done, above 0.
        usual: the usual norm; 0 if unknown.
        limit: largest multiple of the usual norm.

    Raises:
        ProtocolError: the norm exceeds `limit` times the usual one, or MAX_NORM.
    """
    norm = update_norm(update) / share
    if not norm <= MAX_NORM:
        raise ProtocolError("update changes the model beyond reason")
    if usual and not norm <= limit * usual:
        raise ProtocolError(f"update is {norm / usual:.3g} times as long as usual, above {limit:g}")
    return norm
