"""What this site answers to a task. No exception leaves: errors become a code and a fixed sentence."""

import json
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch
from pydantic import ValidationError

from client import policy, work
from client.approval import Approvals
from client.link import Link
from client.refused import RefusedError
from client.sitefile import SiteFile
from mama.checkpoint import load_tensors, save_tensors
from mama.config import Experiment
from mama.errors import (
    ConfigError,
    DataError,
    EmptyReportsError,
    ModelError,
    NoStudiesError,
    ProtocolError,
    TrainingError,
)
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import PROTOCOL, Answer, Task

logger = logging.getLogger("fedmama.client")


def answer(
    site: SiteFile,
    header: object,
    payload: bytes,
    on_step: Callable[[str, int], None] | None = None,
) -> tuple[Answer, bytes]:
    """Do a task and answer it; a task done before is answered from the site's disk.

    Args:
        header: the task's JSON, unchecked.
        payload: the global model's trained tensors (empty for `describe`), unchecked.
    """
    try:
        task = Task.decode(header)
    except ProtocolError as error:
        logger.error("site %s: %s", site.site, error)
        return refusal(ErrorCode.BAD_REQUEST, site.site), b""
    known = site.state / task.run / "last_answer.safetensors"
    try:
        return _answered(known, task.task) or _done(site, task, payload, known, on_step)
    except Exception as error:
        # The server gets a code; what happened stays in the site's own log.
        code = _code_of(error)
        where = f"site {site.site}, round {task.round}, {task.kind}: {code}"
        logger.error("%s: %s", where, error, exc_info=code == ErrorCode.INTERNAL)
        return refusal(code, site.site, task), b""


def refusal(code: ErrorCode, site: str = "unknown", task: Task | None = None) -> Answer:
    """An answer that holds nothing but an error code."""
    place = (task.run, task.round, task.task) if task else ("unknown", 0, "unknown")
    return Answer(run=place[0], round=place[1], task=place[2], site=site, status=code)


def _done(
    site: SiteFile,
    task: Task,
    payload: bytes,
    known: Path,
    on_step: Callable[[str, int], None] | None,
) -> tuple[Answer, bytes]:
    """Do a task; the answer to a round of training is kept in `known`, so that it is done once."""
    result, update = _work(site, task, payload, on_step)
    reply = Answer(
        run=task.run, round=task.round, task=task.task, site=site.site, status="ok", **result
    )
    if task.kind == "train":
        block = torch.frombuffer(bytearray(update), dtype=torch.uint8)
        save_tensors(known, {"update": block}, reply.model_dump(mode="json"))
    return reply, update


def _work(
    site: SiteFile, task: Task, payload: bytes, on_step: Callable[[str, int], None] | None
) -> tuple[dict, bytes]:
    if task.protocol != PROTOCOL:
        raise RefusedError(ErrorCode.PROTOCOL)
    experiment = task.read_experiment()
    _ask_policy(site, experiment)
    link = Link(site, task.run, experiment.federation.exchange)
    if task.kind == "describe":
        description = work.describe(site, experiment)
        policy.check_upload(site, experiment, description.trained_parameters)
        return {"description": description, "holds": link.holds()}, b""
    arrays = link.receive(payload, work.shapes(site, experiment))
    if task.kind == "evaluate":
        counts = work.evaluate(site, experiment, arrays, probes=task.probes)
        counts = policy.allowed_counts(site, counts)
        return {"evaluation": counts, "holds": link.holds()}, b""
    metrics, update = work.train(site, experiment, task.run, task.round, arrays, on_step)
    metrics = policy.allowed_training(site, metrics)
    return {"training": metrics, "holds": link.holds()}, link.send(update, task.round)


def _ask_policy(site: SiteFile, experiment: Experiment) -> None:
    try:
        policy.check(site, experiment, datetime.now())
    except RefusedError as error:
        if error.code == ErrorCode.NOT_APPROVED:
            Approvals(site).note(experiment)
        raise


def _answered(path: Path, task: str) -> tuple[Answer, bytes] | None:
    try:
        tensors, state = load_tensors(path)
        reply = Answer.model_validate_json(json.dumps(state))
    except (
        ModelError,
        ValidationError,
    ):  # none yet, damaged, or an older version's: it is done again
        return None
    return (reply, tensors["update"].numpy().tobytes()) if reply.task == task else None


def _code_of(error: Exception) -> ErrorCode:
    match error:
        case RefusedError():
            return error.code
        case ProtocolError():
            return ErrorCode.BAD_REQUEST
        case ConfigError():
            return ErrorCode.SITE_FILE
        case NoStudiesError():
            return ErrorCode.NO_STUDIES
        case EmptyReportsError():
            return ErrorCode.EMPTY_REPORTS
        case TrainingError():
            return ErrorCode.TRAINING
        case DataError():
            return ErrorCode.NO_DATA
        case ModelError():
            return ErrorCode.BASE_MODEL
        case _:
            return ErrorCode.INTERNAL
