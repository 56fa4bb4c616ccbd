"""Count of the rounds that a site has trained of an experiment, over all its runs."""

from client.errors import RefusedError
from client.policy.approval import Approvals
from client.site.config import SiteFile
from mama.config import Experiment
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from mama.system.sealed import read_sealed, write_sealed


def round_of_model(task: Task) -> int:
    """Return the number of rounds behind a task's model: round n trains the model of n - 1."""
    return task.round - 1 if task.kind == "train" else task.round


def require_planned(task: Task, experiment: Experiment) -> None:
    """Refuse a task beyond the experiment's last round.

    Raises:
        RefusedError: the experiment has fewer rounds.
    """
    rounds = experiment.federation.rounds
    if task.round > rounds:
        detail = f"round {task.round} exceeds the experiment's {rounds} rounds"
        raise RefusedError(ErrorCode.POLICY_PLAN, detail)


class Plan:
    """The rounds that a site has trained of an experiment, bounded by its approval if required.

    Raises:
        IntegrityError: the record is damaged.
    """

    def __init__(self, site: SiteFile, experiment: Experiment):
        self.site, self.experiment = site, experiment
        self.path = site.state / "service" / "plans" / f"{experiment.hash()}.json"
        fix = "Restore it from a backup; it counts the experiment's trained rounds"
        self.trained: dict[str, int] = (read_sealed(self.path, fix) or {}).get("rounds", {})

    def require(self, run: str) -> None:
        """Refuse another round if all runs together would exceed the approval.

        Raises:
            RefusedError: all approved runs have begun, or all approved rounds are done.
        """
        if not self.site.policy.approval:
            return
        runs = Approvals(self.site).runs(self.experiment.hash())
        rounds = self.experiment.federation.rounds * runs
        if run not in self.trained and len(self.trained) >= runs:
            raise RefusedError(ErrorCode.POLICY_PLAN, f"all {runs} approved runs have begun")
        if sum(self.trained.values()) >= rounds:
            raise RefusedError(ErrorCode.POLICY_PLAN, f"all {rounds} approved rounds are done")

    def count(self, run: str) -> None:
        """Count one more round of a run, before its update is sent."""
        self.trained[run] = self.trained.get(run, 0) + 1
        write_sealed(self.path, {"rounds": self.trained})
