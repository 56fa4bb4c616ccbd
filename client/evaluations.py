"""The evaluations that left a site: one model a round, answers that repeat, and a quota a month.

They lie beside the privacy ledger, so that removing a run's state resets nothing.
"""

from collections.abc import Callable
from datetime import date

from pydantic import TypeAdapter, ValidationError

from client.refused import RefusedError
from client.sitefile import SiteFile
from mama.config import Section
from mama.errors import IntegrityError, PrivacyError
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import EvaluationCounts
from mama.exchange.protocol import Task
from mama.locks import locked
from mama.sealed import read_sealed, write_sealed

# After which an evaluation is forgotten; by then its run has long ended.
KEPT_YEARS = 1


class Evaluated(Section):
    """One evaluation that was answered; `month` is such as 2026-11."""

    month: str
    run: str
    round: int
    probes: bool
    experiment: str
    model: str
    counts: EvaluationCounts


RECORDS = TypeAdapter(list[Evaluated])


class Evaluations:
    """All evaluations of one site's dataset, whatever run they were for."""

    def __init__(self, site: SiteFile):
        self._path = site.privacy / "evaluations"
        self._most = site.policy.max_evaluations

    def answer(
        self, task: Task, model: str, today: date, evaluate: Callable[[], EvaluationCounts]
    ) -> EvaluationCounts:
        """The counts of a model, which are kept before they leave; the same task again gets the same ones, for free.

        Args:
            model: the checksum of the model that came with the task.
            today: the date at the site, local.
            evaluate: counts the model's answers.

        Raises:
            RefusedError: another model was evaluated for this round, probes were fitted for this run before, or the
                month's quota is used up.
            PrivacyError: the file of evaluations is damaged; nothing is evaluated until it is restored.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path.with_name("evaluations.lock")):
            known = self._read()
            asked = Evaluated(
                month=f"{today:%Y-%m}",
                run=task.run,
                round=task.round,
                probes=task.probes,
                experiment=task.experiment_hash,
                model=model,
                counts=EvaluationCounts(counts={}),
            )
            before = _before(known, asked)
            if before is not None:
                return before.counts
            # After the clock was set back, later months count too.
            if sum(one.month >= asked.month for one in known) >= self._most:
                raise RefusedError(ErrorCode.POLICY_EVALUATIONS)
            counts = evaluate()
            first = f"{today.year - KEPT_YEARS:04}-{today.month:02}"
            kept = [one for one in known if one.month >= first]
            self._write([*kept, asked.model_copy(update={"counts": counts})])
            return counts

    def _read(self) -> list[Evaluated]:
        fix = "Restore the newest whole copy; no model is evaluated until then"
        try:
            found = read_sealed(self._path, fix) or {"evaluations": []}
            return RECORDS.validate_python(found["evaluations"])
        except (IntegrityError, ValidationError, KeyError):
            raise PrivacyError(
                "the record of evaluations is damaged", where=str(self._path), fix=fix
            ) from None

    def _write(self, records: list[Evaluated]) -> None:
        write_sealed(self._path, {"evaluations": RECORDS.dump_python(records, mode="json")})


def _before(known: list[Evaluated], asked: Evaluated) -> Evaluated | None:
    """The same evaluation as it was answered before.

    Raises:
        RefusedError: what was asked is a second model of its round, or second probes of its run.
    """
    for one in known:
        if one.run != asked.run:
            continue
        same_round = one.round == asked.round
        same_model = (one.experiment, one.model) == (asked.experiment, asked.model)
        if same_round and same_model and one.probes == asked.probes:
            return one
        if (same_round and not same_model) or (one.probes and asked.probes):
            raise RefusedError(ErrorCode.POLICY_EVALUATIONS)
    return None
