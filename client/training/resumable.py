"""Resumable round of training, which keeps its limits and continues after a crash."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from client.site.config import SiteFile
from mama.errors import ModelError
from mama.exchange.protocol import Task
from mama.training.diagnostics import TrainingRecord
from mama.training.snapshots import Snapshots
from mama.training.trainer import Trainer

logger = logging.getLogger("fedmama.client")
RESERVE = 0.1  # fraction of the deadline that is left for encoding and sending the update


@dataclass(frozen=True)
class RoundLimits:
    """Limits of a round: end time (`time.monotonic`), seconds of training, and steps."""

    end: float | None = None
    budget_s: float | None = None
    steps: int | None = None

    def reached(self, record: TrainingRecord) -> bool:
        """Return whether one more average step would exceed a limit; False before any step."""
        if not record.taken:
            return False
        if self.steps is not None and record.taken >= self.steps:
            return True
        step_s = record.seconds / record.taken
        late = self.end is not None and time.monotonic() + step_s > self.end
        return late or (self.budget_s is not None and record.seconds + step_s > self.budget_s)


class OpenRound:
    """Round of one task with a checkpoint every `checkpoint_s` seconds of the site file.

    A checkpoint is resumed only for the same task with the same global model, and gives a bitwise
    identical update (on a CPU). The deadline counts from `arrived`; the budgets count seconds of
    training, including those before a restart.

    Args:
        site: the site's settings.
        task: the training task.
        model: checksum of the global model that the round starts from.
        arrived: arrival time of the task (`time.monotonic`).
    """

    def __init__(self, site: SiteFile, task: Task, model: str, arrived: float):
        self.site = site
        self.claim = {"round": task.round, "task": task.task, "model": model}
        self.snapshots = Snapshots(site.run_folder(task.run) / "open_round", kept=1)
        experiment = task.read_experiment()
        if experiment.privacy.mode == "patient":
            # The number of steps done in time would leak information on the sampled groups.
            self.limits = RoundLimits()
            return
        budgets = (site.policy.max_round_s, experiment.participation.budget_s)
        # Deadlines are ignored under secure aggregation: with one per site, a coordinator could
        # stop all sites but one almost at once.
        no_deadline = task.deadline_s is None or experiment.privacy.secure is not None
        self.limits = RoundLimits(
            None if no_deadline else arrived + (1 - RESERVE) * (task.deadline_s or 0),
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
        """Take the missing global steps until all are done or a limit is reached.

        Args:
            trainer: the round's trainer.
            steps: the round's global steps.
            progress: called with each step that was taken.
            before_save: called before each checkpoint is written.
        """
        record = self._resume(trainer)
        saved = time.monotonic()
        with closing(trainer.steps(steps[record.taken :], record)) as left:
            while record.taken < len(steps) and not self.limits.reached(record):
                progress(next(left))
                due = time.monotonic() >= saved + self.site.checkpoint_s
                if due and record.taken < len(steps):
                    before_save()
                    self.snapshots.save(
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
        """Remove the checkpoints; called once the round's answer is stored."""
        self.snapshots.remove()

    def _resume(self, trainer: Trainer) -> TrainingRecord:
        try:
            note = self.snapshots.note()
            if isinstance(note, dict) and note.items() >= self.claim.items():
                self.snapshots.resume(trainer)
                record = TrainingRecord(**note["record"])
                self._log(logging.INFO, f"goes on after {record.taken} steps")
                return record
        except ModelError as error:
            self._log(logging.WARNING, f"starts again: {error}")
        self.snapshots.remove()
        return TrainingRecord()

    def _log(self, level: int, text: str) -> None:
        logger.log(level, "site %s, round %d: %s", self.site.site, self.claim["round"], text)
