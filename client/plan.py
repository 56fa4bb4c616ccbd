"""The rounds that a site has trained of one experiment, counted over all runs and whatever they are called."""

from client.approval import Approvals
from client.refused import RefusedError
from client.sitefile import SiteFile
from mama.config import Experiment
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from mama.sealed import read_sealed, write_sealed


def round_of_model(task: Task) -> int:
    """The number of rounds that made the model of a task: a round of training begins with that of the round before."""
    return task.round - 1 if task.kind == "train" else task.round


def require_planned(task: Task, experiment: Experiment) -> None:
    """Refuse a task beyond the experiment's rounds.

    Raises:
        RefusedError: it is.
    """
    if task.round > experiment.federation.rounds:
        raise RefusedError(ErrorCode.POLICY_PLAN, f"round {task.round} is beyond the plan")


class Plan:
    """The rounds that a site has trained of an experiment. With `policy.approval` the approval bounds runs and steps.

    Raises:
        IntegrityError: the record is damaged.
    """

    def __init__(self, site: SiteFile, experiment: Experiment):
        self.site, self.experiment = site, experiment
        self.path = site.state / "service" / "plans" / f"{experiment.hash()}.json"
        fix = "Restore it from a backup; without it nothing says how often the experiment ran"
        self.trained: dict[str, int] = (read_sealed(self.path, fix) or {}).get("rounds", {})

    def require(self, run: str) -> None:
        """Refuse another round where all runs together would pass what was approved.

        Raises:
            RefusedError: they would.
        """
        if not self.site.policy.approval:
            return
        runs = Approvals(self.site).runs(self.experiment.hash())
        rounds = self.experiment.federation.rounds * runs
        if run not in self.trained and len(self.trained) >= runs:
            raise RefusedError(ErrorCode.POLICY_PLAN, f"{runs} approved runs have begun")
        if sum(self.trained.values()) >= rounds:
            raise RefusedError(ErrorCode.POLICY_PLAN, f"{rounds} approved rounds are done")

    def count(self, run: str) -> None:
        """Count one more round of a run, before its update leaves."""
        self.trained[run] = self.trained.get(run, 0) + 1
        write_sealed(self.path, {"rounds": self.trained})
