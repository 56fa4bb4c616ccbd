"""A round of training at work: it ends in time, and goes on where it was when this process or machine died."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from client.sitefile import SiteFile
from mama.errors import ModelError
from mama.exchange.protocol import Task
from mama.stops import Stops
from mama.trainer import Trainer, TrainingRecord

logger = logging.getLogger("fedmama.client")
RESERVE = 0.1  # of the deadline: for encoding the update and sending it


@dataclass(frozen=True)
class RoundLimits:
    """When a round must end: at a time of `time.monotonic`, after so many seconds of training or so many steps."""

    end: float | None = None
    budget_s: float | None = None
    steps: int | None = None

    def reached(self, record: TrainingRecord) -> bool:
        """Whether another step like those before would be too late. A first step is always taken."""
        if not record.taken:
            return False
        if self.steps is not None and record.taken >= self.steps:
            return True
        step_s = record.seconds / record.taken
        late = self.end is not None and time.monotonic() + step_s > self.end
        return late or (self.budget_s is not None and record.seconds + step_s > self.budget_s)


class OpenRound:
    """The round of one task, with the steps so far on the site's disk every `checkpoint_s` seconds of the site file.

    They are taken up only for the same task with the same global model, to the same update to the bit (on a
    CPU). The deadline counts from `arrived`, the budgets count seconds of training, also those before a restart.

    Args:
        model: the checksum of the global model that the round starts from.
        arrived: when the task came, of `time.monotonic`.
    """

    def __init__(self, site: SiteFile, task: Task, model: str, arrived: float):
        self.site = site
        self.claim = {"round": task.round, "task": task.task, "model": model}
        self.stops = Stops(site.run_folder(task.run) / "open_round", kept=1)
        experiment = task.read_experiment()
        if experiment.privacy.mode == "patient":
            # The number of steps done in time would tell of the groups that were drawn.
            self.limits = RoundLimits()
            return
        budgets = (site.policy.max_round_s, experiment.federation.budget_s)
        # Under secure aggregation a deadline of its own would let one site train while the others hardly begin.
        alike = task.deadline_s is None or experiment.privacy.secure is not None
        self.limits = RoundLimits(
            None if alike else arrived + (1 - RESERVE) * (task.deadline_s or 0),
            min((budget for budget in budgets if budget is not None), default=None),
            site.policy.max_round_steps,
        )

    def take(
        self,
        trainer: Trainer,
        steps: range,
        progress: Callable[[int], None],
        before_save: Callable[[], None] = lambda: None,
    ) -> TrainingRecord:
        """Take the global steps, from the first that is missing, until all are done or time is up.

        Args:
            before_save: called each time before steps are put on the disk.
        """
        record = self._resume(trainer)
        saved = time.monotonic()
        with closing(trainer.steps(steps[record.taken :], record)) as left:
            while record.taken < len(steps) and not self.limits.reached(record):
                progress(next(left))
                due = time.monotonic() >= saved + self.site.checkpoint_s
                if due and record.taken < len(steps):
                    before_save()
                    self.stops.save(
                        record.taken, trainer, {**self.claim, "record": record.counted()}
                    )
                    saved = time.monotonic()
        if record.taken < len(steps):
            self._log(
                logging.WARNING,
                f"{record.taken} of {len(steps)} steps within the limits of the round",
            )
        return record

    def close(self) -> None:
        """The round's answer is safe: forget its steps."""
        self.stops.remove()

    def _resume(self, trainer: Trainer) -> TrainingRecord:
        try:
            note = self.stops.note()
            if isinstance(note, dict) and note.items() >= self.claim.items():
                self.stops.resume(trainer)
                record = TrainingRecord(**note["record"])
                self._log(logging.INFO, f"goes on after {record.taken} steps")
                return record
        except ModelError as error:
            self._log(logging.WARNING, f"starts again: {error}")
        self.stops.remove()
        return TrainingRecord()

    def _log(self, level: int, text: str) -> None:
        logger.log(level, "site %s, round %d: %s", self.site.site, self.claim["round"], text)
