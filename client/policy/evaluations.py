"""Record and limits of evaluations: one model per round, cached answers and a monthly quota.

The record lies beside the privacy ledger, so that removing a run's state does not reset it.
"""

from collections.abc import Callable
from datetime import date

from pydantic import TypeAdapter, ValidationError

from client.errors import RefusedError
from client.site.config import SiteFile
from mama.config import Section
from mama.errors import IntegrityError, PrivacyError
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import EvaluationCounts
from mama.exchange.protocol import Task
from mama.system.locks import locked
from mama.system.sealed import read_sealed, write_sealed

# Evaluations are removed from the record after this time, when their run has long ended.
KEPT_YEARS = 1


class Evaluated(Section):
    """One answered evaluation; `month` has the form 2026-11."""

    month: str
    run: str
    round: int
    probes: bool
    experiment: str
    model: str
    counts: EvaluationCounts


RECORDS = TypeAdapter(list[Evaluated])


class Evaluations:
    """All evaluations on one site's dataset, over all runs."""

    def __init__(self, site: SiteFile):
        self._path = site.privacy / "evaluations"
        self._most = site.policy.max_evaluations

    def answer(
        self, task: Task, model: str, today: date, evaluate: Callable[[], EvaluationCounts]
    ) -> EvaluationCounts:
        """Return the counts of a model, recorded before they are sent.

        A repeated task gets the recorded counts and does not use the quota.

        Args:
            task: the evaluation task.
            model: checksum of the received model.
            today: local date at the site.
            evaluate: evaluates the model.

        Raises:
            RefusedError: another model was evaluated for this round, probes were fitted for this
                run before, or the month's quota is used up.
            PrivacyError: the record is damaged; evaluation stays off until it is restored.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path.with_name("evaluations.lock")):
            known = self._read()
            new = Evaluated(
                month=f"{today:%Y-%m}",
                run=task.run,
                round=task.round,
                probes=task.probes,
                experiment=task.experiment_hash,
                model=model,
                counts=EvaluationCounts(counts={}),
            )
            before = _earlier_answer(known, new)
            if before is not None:
                return before.counts
            # Later months count too, in case the clock was set back.
            if sum(one.month >= new.month for one in known) >= self._most:
                raise RefusedError(ErrorCode.POLICY_EVALUATIONS)
            counts = evaluate()
            first = f"{today.year - KEPT_YEARS:04}-{today.month:02}"
            kept = [one for one in known if one.month >= first]
            self._write([*kept, new.model_copy(update={"counts": counts})])
            return counts

    def _read(self) -> list[Evaluated]:
        fix = "Restore the newest intact copy; evaluation stays off until then"
        try:
            found = read_sealed(self._path, fix) or {"evaluations": []}
            return RECORDS.validate_python(found["evaluations"])
        except (IntegrityError, ValidationError, KeyError):
            raise PrivacyError(
                "the record of evaluations is damaged", where=str(self._path), fix=fix
            ) from None

    def _write(self, records: list[Evaluated]) -> None:
        write_sealed(self._path, {"evaluations": RECORDS.dump_python(records, mode="json")})


def _earlier_answer(known: list[Evaluated], new: Evaluated) -> Evaluated | None:
    """Return the recorded answer to the same evaluation, None if there is none.

    Raises:
        RefusedError: this is a second model of its round, or second probes of its run.
    """
    for one in known:
        if one.run != new.run:
            continue
        same_round = one.round == new.round
        same_model = (one.experiment, one.model) == (new.experiment, new.model)
        if same_round and same_model and one.probes == new.probes:
            return one
        if (same_round and not same_model) or (one.probes and new.probes):
            raise RefusedError(ErrorCode.POLICY_EVALUATIONS)
    return None
