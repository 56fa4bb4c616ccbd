"""Task handlers; no exception leaves the site: an error becomes a code with a fixed meaning."""

import errno
import logging
import time
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from torch import OutOfMemoryError

from client.errors import RefusedError
from client.identity.peers import read_peers
from client.identity.roster import take_roster
from client.policy import rules
from client.policy.approval import Approvals
from client.policy.evaluations import Evaluations
from client.policy.in_force import put_in_force
from client.policy.lineage import Lineage
from client.policy.plan import Plan, require_planned
from client.policy.statistics import statistics_of
from client.privacy.sent import SentRecord
from client.secagg.unmasked import UnmaskedSums
from client.secagg.waves import answer_wave, basis_of, keep_update
from client.site import final_models
from client.site.config import SiteFile
from client.site.dataset import may_share_weights
from client.training import tasks
from client.training.exchange import Link
from client.training.last_answer import LAST_ANSWER, LastAnswer, require_trained
from client.training.rehearsal import cost_since, rehearse
from client.training.resumable import OpenRound
from client.training.round_state import alone
from mama.config import Experiment
from mama.errors import (
    BudgetError,
    ConfigError,
    DataError,
    EmptyReportsError,
    IntegrityError,
    ModelError,
    NoStudiesError,
    PrivacyError,
    ProtocolError,
    StorageError,
    TrainingError,
    VersionError,
)
from mama.exchange.arrays import Arrays
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import WAVES, Answer, Task

logger = logging.getLogger("fedmama.client")
# Codes that protocol 2 lacks, mapped to its nearest ones.
IN_PROTOCOL_2 = {
    ErrorCode.POLICY_PATIENTS: ErrorCode.POLICY_PRIVACY,
    ErrorCode.POLICY_BOUNDS: ErrorCode.POLICY_PRIVACY,
    ErrorCode.POLICY_SIZE: ErrorCode.POLICY_MEMORY,
    ErrorCode.POLICY_PLAN: ErrorCode.NOT_APPROVED,
    ErrorCode.REJECTED: ErrorCode.NOT_APPROVED,
    ErrorCode.POLICY_EVALUATIONS: ErrorCode.POLICY_PRIVACY,
    ErrorCode.POLICY_WEAKER: ErrorCode.NOT_APPROVED,
    ErrorCode.MODEL_STEP: ErrorCode.BAD_REQUEST,
    ErrorCode.RECORDS: ErrorCode.INTERNAL,
    ErrorCode.SECURE_PEERS: ErrorCode.SECURE_TERMS,
    ErrorCode.SECURE_REPEATED: ErrorCode.SECURE_TERMS,
    ErrorCode.SENT_RECORD: ErrorCode.INTERNAL,
    ErrorCode.POLICY_LICENCE: ErrorCode.POLICY_SECURE,
}


def answer(
    site: SiteFile,
    header: object,
    payload: bytes,
    on_step: Callable[[str, int], None] | None = None,
) -> tuple[Answer, bytes]:
    """Do a task and return its answer; a repeated training or evaluation is answered from disk.

    The answer is recorded as sent before it is returned; if it cannot be recorded, an error code is
    returned in its place.

    Args:
        site: the site's settings.
        header: the task's JSON, unchecked.
        payload: the global model's trained tensors (empty for queries), unchecked.
        on_step: called with the site and the step after every local step.
    """
    arrived = time.monotonic()
    try:
        task = Task.decode(header)
    except ProtocolError as error:
        logger.error("site %s: %s", site.site, error)
        return _recorded(site, None, refusal(_code_of(error), site.site), b"")
    return _recorded(site, task, *_answered(site, task, payload, on_step, arrived))


def _recorded(
    site: SiteFile, task: Task | None, reply: Answer, block: bytes
) -> tuple[Answer, bytes]:
    """Record an answer and return it, or an error code without site data if recording fails."""
    try:
        SentRecord(site).note(task.kind if task else "unknown", reply, reply.encode(), block)
    except Exception as error:
        full = _code_of(error) == ErrorCode.DISK_FULL
        logger.error(
            "site %s: the answer is not sent because it cannot be recorded: %s", site.site, error
        )
        return refusal(ErrorCode.DISK_FULL if full else ErrorCode.SENT_RECORD, site.site, task), b""
    return reply, block


def _answered(
    site: SiteFile,
    task: Task,
    payload: bytes,
    on_step: Callable[[str, int], None] | None,
    arrived: float,
) -> tuple[Answer, bytes]:
    try:
        reply, block = _done(site, task, payload, on_step, arrived)
        return _in_version(task.protocol, reply), block
    except Exception as error:
        # The server gets only the code; the details stay in the site's log.
        code = _code_of(error)
        where = f"site {site.site}, round {task.round}, {task.kind}: {code}"
        logger.error("%s: %s", where, error, exc_info=code == ErrorCode.INTERNAL)
        return refusal(code, site.site, task), b""


def _in_version(protocol: int, reply: Answer) -> Answer:
    """Return an answer in the format of a version of the protocol."""
    changes: dict[str, Any] = {"protocol": protocol}
    if protocol == 2:
        # It lacks masked labels and would treat the counts as exact.
        changes["evaluation"] = changes["statistics"] = None
    return reply.model_copy(update=changes)


def refusal(code: ErrorCode, site: str = "unknown", task: Task | None = None) -> Answer:
    """Return an answer that contains nothing but an error code."""
    if task is None:
        return Answer(run="unknown", round=0, task="unknown", site=site, status=code)
    if task.protocol == 2:
        code = IN_PROTOCOL_2.get(code, code)
    return Answer(
        protocol=task.protocol,
        run=task.run,
        round=task.round,
        task=task.task,
        site=site,
        status=code,
    )


def _done(
    site: SiteFile,
    task: Task,
    payload: bytes,
    on_step: Callable[[str, int], None] | None,
    arrived: float,
) -> tuple[Answer, bytes]:
    put_in_force(site)
    take_roster(site, task.roster)
    experiment = task.read_experiment()
    _ask_policy(site, experiment)
    require_planned(task, experiment)
    link = Link(site, task.run, experiment.exchange)
    if task.kind == "describe":
        if experiment.privacy.secure:
            read_peers(site)  # a site that could not mask its update does not join
        _check_upload(site, experiment)
        description = tasks.describe(site, experiment)
        # Only a licence against it is told: earlier releases do not know the field.
        share = None if may_share_weights(site) else False
        reply = _answer(
            site, task, description=description, holds=link.holds(), share_weights=share
        )
        return reply, b""
    if task.kind == "statistics":
        return _answer(site, task, statistics=statistics_of(site, experiment)), b""
    if task.kind == "rehearse":
        block = rehearse(payload, tasks.shapes(site, experiment), experiment.exchange)
        return _answer(site, task, rehearsal=cost_since(arrived)), block
    with alone(site.run_folder(task.run)):
        if task.kind in WAVES:
            message = answer_wave(site, experiment, task, payload)
            return _answer(site, task, holds=link.holds()), message
        arrays = link.receive(payload, tasks.shapes(site, experiment))
        lineage = tasks.lineage(site, experiment, task.run)
        lineage.accept(task, arrays, link.received)
        if task.kind == "evaluate":
            counts = Evaluations(site).answer(
                task,
                link.received,
                date.today(),
                lambda: tasks.evaluate(site, experiment, task, arrays),
            )
            counts = rules.allowed_counts(site, counts)
            return _answer(site, task, evaluation=counts, holds=link.holds()), b""
        if task.kind == "finish":
            require_trained(site.run_folder(task.run))
            tasks.keep_final(site, experiment, task, arrays, link.received)
            tasks.optimiser_states(site, task.run).remove()
            final_models.prune(site.state, task.run)
            return _answer(site, task, final=link.received, holds=link.holds()), b""
        _check_upload(site, experiment)
        return _trained(site, task, experiment, link, lineage, arrays, on_step, arrived)


def _check_upload(site: SiteFile, experiment: Experiment) -> None:
    rules.check_upload(site, experiment, rules.values_of(tasks.shapes(site, experiment)))


def _trained(  # noqa: PLR0913  (a task and its context)
    site: SiteFile,
    task: Task,
    experiment: Experiment,
    link: Link,
    lineage: Lineage,
    arrays: Arrays,
    on_step: Callable[[str, int], None] | None,
    arrived: float,
) -> tuple[Answer, bytes]:
    """Train, or return the previous answer to the same round and model."""
    if experiment.privacy.secure:
        UnmaskedSums(site).require_new(basis_of(task, link.received))
    known = LastAnswer(site.run_folder(task.run) / LAST_ANSWER)
    before = known.read(task, link.received)
    if before is None:
        plan = Plan(site, experiment)
        repeated = lineage.is_repeated(task, link.received)
        if not repeated:
            plan.require(task.run)
        open_round = OpenRound(site, task, link.received, arrived)
        metrics, update = tasks.train(site, experiment, task, arrays, open_round, on_step)
        share = metrics.steps / experiment.federation.local_steps
        metrics = rules.allowed_training(site, metrics)
        if not repeated:
            plan.count(task.run)
        lineage.trained(task, arrays, link.received, update, share)
        reply = _answer(site, task, training=metrics, holds=link.holds())
        if experiment.privacy.secure:
            keep_update(site, experiment, task, link.received, update, metrics)
            update = {}
        before = reply, link.send(update, task.round)
        known.write(*before, link.received)
        open_round.close()
    return before


def _ask_policy(site: SiteFile, experiment: Experiment) -> None:
    try:
        rules.check(site, experiment, datetime.now())
    except RefusedError as error:
        if error.code == ErrorCode.NOT_APPROVED:
            Approvals(site).note(experiment)
        raise


def _answer(site: SiteFile, task: Task, **values: Any) -> Answer:
    return Answer(
        run=task.run, round=task.round, task=task.task, site=site.site, status="ok", **values
    )


def _code_of(error: Exception) -> ErrorCode:
    match error:
        case RefusedError():
            return error.code
        case BudgetError():
            return ErrorCode.BUDGET
        case PrivacyError():
            return ErrorCode.LEDGER
        case VersionError():
            return ErrorCode.PROTOCOL
        case ProtocolError():
            return ErrorCode.BAD_REQUEST
        case ConfigError():
            return ErrorCode.SITE_FILE
        case NoStudiesError():
            return ErrorCode.NO_STUDIES
        case EmptyReportsError():
            return ErrorCode.EMPTY_REPORTS
        case TrainingError() | OutOfMemoryError():
            return ErrorCode.TRAINING
        case DataError():
            return ErrorCode.NO_DATA
        case ModelError():
            return ErrorCode.BASE_MODEL
        case IntegrityError():
            return ErrorCode.RECORDS
        case StorageError() | OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return ErrorCode.DISK_FULL
        case _:
            return ErrorCode.INTERNAL
