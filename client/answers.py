"""What this site answers to a task. No exception leaves: errors become a code and a fixed sentence."""

import errno
import logging
import time
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from torch import OutOfMemoryError

from client import finals, policy, work
from client.approval import Approvals
from client.evaluations import Evaluations
from client.in_force import require_in_force
from client.last_answer import LAST_ANSWER, LastAnswer
from client.lineage import Lineage
from client.link import Link
from client.open_round import OpenRound
from client.peers import read_peers
from client.plan import Plan, require_planned
from client.refused import RefusedError
from client.rehearsal import cost_since, rehearse
from client.roster import take_roster
from client.secure_waves import answer_wave, basis_of, keep_update
from client.sent import SentRecord
from client.sitefile import SiteFile
from client.states import alone
from client.unmasked import UnmaskedSums
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
# Codes that protocol 2 does not know, as what it would have called them.
IN_PROTOCOL_2 = {
    ErrorCode.POLICY_PATIENTS: ErrorCode.POLICY_PRIVACY,
    ErrorCode.POLICY_BOUNDS: ErrorCode.POLICY_PRIVACY,
    ErrorCode.POLICY_SIZE: ErrorCode.POLICY_MEMORY,
    ErrorCode.POLICY_PLAN: ErrorCode.NOT_APPROVED,
    ErrorCode.POLICY_EVALUATIONS: ErrorCode.POLICY_PRIVACY,
    ErrorCode.POLICY_WEAKER: ErrorCode.NOT_APPROVED,
    ErrorCode.MODEL_STEP: ErrorCode.BAD_REQUEST,
    ErrorCode.RECORDS: ErrorCode.INTERNAL,
    ErrorCode.SECURE_PEERS: ErrorCode.SECURE_TERMS,
    ErrorCode.SECURE_REPEATED: ErrorCode.SECURE_TERMS,
    ErrorCode.SENT_RECORD: ErrorCode.INTERNAL,
}


def answer(
    site: SiteFile,
    header: object,
    payload: bytes,
    on_step: Callable[[str, int], None] | None = None,
) -> tuple[Answer, bytes]:
    """Do a task and answer it; a task done before is answered from the site's disk.

    The answer is in the site's record of what it sent before it is returned; one that cannot be recorded is not.

    Args:
        header: the task's JSON, unchecked.
        payload: the global model's trained tensors (empty for `describe`), unchecked.
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
    """An answer that the site's own record names; else an error code, which holds nothing of the site."""
    try:
        SentRecord(site).note(task.kind if task else "unknown", reply, reply.encode(), block)
    except Exception as error:
        full = _code_of(error) == ErrorCode.DISK_FULL
        logger.error(
            "site %s: the answer is not sent, for it cannot be recorded: %s", site.site, error
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
        # The server gets a code; what happened stays in the site's own log.
        code = _code_of(error)
        where = f"site {site.site}, round {task.round}, {task.kind}: {code}"
        logger.error("%s: %s", where, error, exc_info=code == ErrorCode.INTERNAL)
        return refusal(code, site.site, task), b""


def _in_version(protocol: int, reply: Answer) -> Answer:
    """An answer as another version of the protocol has it."""
    changes: dict[str, Any] = {"protocol": protocol}
    if protocol == 2:
        # It knows no masked labels, and would take the counts for exact ones.
        changes["evaluation"] = None
    return reply.model_copy(update=changes)


def refusal(code: ErrorCode, site: str = "unknown", task: Task | None = None) -> Answer:
    """An answer that holds nothing but an error code."""
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
    require_in_force(site)
    take_roster(site, task.roster)
    experiment = task.read_experiment()
    _ask_policy(site, experiment)
    require_planned(task, experiment)
    link = Link(site, task.run, experiment.federation.exchange)
    if task.kind == "describe":
        if experiment.privacy.secure:
            read_peers(site)  # a site that could not mask its update does not join
        _check_upload(site, experiment)
        description = work.describe(site, experiment)
        return _answer(site, task, description=description, holds=link.holds()), b""
    if task.kind == "rehearse":
        block = rehearse(payload, work.shapes(site, experiment), experiment.federation.exchange)
        return _answer(site, task, rehearsal=cost_since(arrived)), block
    with alone(site.run_folder(task.run)):
        if task.kind in WAVES:
            said = answer_wave(site, experiment, task, payload)
            return _answer(site, task, holds=link.holds()), said
        arrays = link.receive(payload, work.shapes(site, experiment))
        lineage = work.lineage(site, experiment, task.run)
        lineage.accept(task, arrays, link.received)
        if task.kind == "evaluate":
            counts = Evaluations(site).answer(
                task,
                link.received,
                date.today(),
                lambda: work.evaluate(site, experiment, task, arrays),
            )
            counts = policy.allowed_counts(site, counts)
            return _answer(site, task, evaluation=counts, holds=link.holds()), b""
        if task.kind == "finish":
            finals.require_trained(site.run_folder(task.run))
            work.keep_final(site, experiment, task, arrays, link.received)
            work.optimiser_states(site, task.run).remove()
            finals.prune(site.state, task.run)
            return _answer(site, task, final=link.received, holds=link.holds()), b""
        _check_upload(site, experiment)
        return _trained(site, task, experiment, link, lineage, arrays, on_step, arrived)


def _check_upload(site: SiteFile, experiment: Experiment) -> None:
    policy.check_upload(site, experiment, policy.values_of(work.shapes(site, experiment)))


def _trained(
    site: SiteFile,
    task: Task,
    experiment: Experiment,
    link: Link,
    lineage: Lineage,
    arrays: Arrays,
    on_step: Callable[[str, int], None] | None,
    arrived: float,
) -> tuple[Answer, bytes]:
    """Train, or repeat the answer of before where the same was asked of the same model."""
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
        metrics, update = work.train(site, experiment, task, arrays, open_round, on_step)
        share = metrics.steps / experiment.federation.local_steps
        metrics = policy.allowed_training(site, metrics)
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
        policy.check(site, experiment, datetime.now())
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
