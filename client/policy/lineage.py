"""Lineage checks on a run's global models against weights that a coordinator planted.

A coordinator that may send arbitrary weights can choose weights that single out a patient (Fowl et
al., "Robbing the Fed", ICLR 2022). The first model must therefore be the one that this site builds
from the experiment and its own base models, each tensor of a later model must lie within a bounded
step of the previous one, and a round has only one model. The bound is per tensor, since a norm over
all tensors would hide one planted tensor that moved far. It limits the speed of a drift: a patient
coordinator can still steer the model over many rounds, each with updates from many patients.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.errors import RefusedError
from client.policy.approval import Approvals
from client.policy.plan import round_of_model
from client.site.config import SiteFile
from client.site.final_models import finals
from mama.config import Experiment
from mama.errors import IntegrityError, ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.codes import ErrorCode
from mama.exchange.fingerprint import arrays_fingerprint
from mama.exchange.protocol import Task
from mama.exchange.update import Update
from mama.system.files import write_bytes
from mama.system.sealed import read_sealed, write_sealed

RECORD = "lineage.json"
# Number of newest rounds whose models' checksums are kept.
REMEMBERED = 20
# Turns that a site may miss before a person must approve the run's model.
MISSED_TURNS = 10
# Equal seeds give equal weights up to rounding, which differs between processors.
ROUNDING = 1e-5
# Adam-like steps may exceed the learning rate in a few values, but a tensor's mean step does not
# exceed it by this factor.
SLACK = 2.0
DAMAGED = "Restore the site's state folder, or approve the run's current model with --join"


class Lineage:
    """Record of the models of one run that one site received.

    Args:
        site: the site's settings.
        experiment: the run's experiment.
        run: the run's name.
        first_checksum: checksum of the experiment's first model as a block.
        first: builds that model (its trained tensors).

    Raises:
        IntegrityError: the record is damaged.
    """

    def __init__(
        self,
        site: SiteFile,
        experiment: Experiment,
        run: str,
        first_checksum: str,
        first: Callable[[], Arrays],
    ):
        self.site, self.experiment, self.run = site, experiment, run
        self._first, self._first_checksum = first, first_checksum
        folder: Path = site.run_folder(run)
        self.record, self.kept = folder / RECORD, folder / "trained_from.safetensors"
        found = read_sealed(self.record, DAMAGED) or {}
        self._experiment: str = found.get("experiment", experiment.hash())
        # Checksums by the number of rounds before the model, and by the round trained from it.
        self._models: dict[str, str] = found.get("models", {})
        self._trained: dict[str, str] = found.get("trained", {})
        # True if a person approved the first model.
        self._given: bool = found.get("given", False)
        # Number of the model in `trained_from.safetensors`, and norm per tensor of the whole
        # round's update from it, accumulated with earlier ones by the server's momentum.
        self._base: int | None = found.get("base")
        self._norms: dict[str, float] = found.get("norms", {})
        # Root mean square of all values of that update, accumulated in the same way.
        self._typical: float = found.get("typical", 0.0)

    def accept(self, task: Task, arrays: Arrays, checksum: str) -> None:
        """Accept and record the model of a task, or refuse it.

        Raises:
            RefusedError: the run has another experiment, the round has another model, or the model
                is too far from the previous one.
        """
        if self._experiment != self.experiment.hash():
            raise RefusedError(ErrorCode.POLICY_PLAN, "the run has another experiment")
        if self.site.policy.max_model_step is None:
            return
        index, before = round_of_model(task), dict(self._models)
        known = self._models.get(str(index))
        if known is not None and known != checksum:
            raise self._refused(task, checksum, "another model of this round is known")
        if known is None:
            reason = self._strange(index, arrays, checksum)
            if reason:
                raise self._refused(task, checksum, reason)
        if task.kind == "train":
            # The coordinator may have resumed an older checkpoint and repeats the rounds after it.
            self._models = {n: c for n, c in self._models.items() if int(n) <= index}
        self._models[str(index)] = checksum
        if index == 0 and known is None:
            self._given = self._approved(checksum)
        if self._models != before:
            if index == 0 and self.experiment.init_from and self._base is None:
                # This site cannot build it again from the experiment.
                write_bytes(self.kept, encode(Update.of(arrays).model))
            self._write()

    def is_repeated(self, task: Task, checksum: str) -> bool:
        """Return whether this round was trained from this model before, with the same update."""
        return self._trained.get(str(task.round)) == checksum

    def trained(
        self, task: Task, arrays: Arrays, checksum: str, update: Arrays, share: float
    ) -> None:
        """Record the model that a round was trained from, and the norms of its update's tensors.

        Args:
            task: the training task.
            arrays: the global model of the task.
            checksum: checksum of that model.
            update: the round's update.
            share: fraction of the round's planned steps that were taken.
        """
        model = Update.of(arrays).model
        if self.site.policy.max_model_step is not None:
            write_bytes(self.kept, encode(model))
            self._base = round_of_model(task)
        moves, momentum = Update.of(update).model, self._momentum()
        norms = {name: _length(array) / share for name, array in moves.items()}
        values = sum(array.size for array in moves.values())
        typical = math.hypot(*norms.values()) / math.sqrt(max(1, values))
        self._norms = {n: norm + momentum * self._norms.get(n, 0.0) for n, norm in norms.items()}
        self._typical = typical + momentum * self._typical
        self._trained[str(task.round)] = checksum
        self._write()

    def _strange(self, index: int, arrays: Arrays, checksum: str) -> str:
        """Return the reason for refusing a new model; empty if it is acceptable."""
        if self._approved(checksum):
            return ""
        given = Update.of(arrays)
        model, variates = given.model, given.variates
        if index == 0 and self.experiment.init_from:
            return self._strange_start(model, variates)
        if index == 0:
            if checksum == self._first_checksum:
                return ""
            first = Update.of(self._first()).model
            return "" if _equal(model, first) else "it is not the experiment's first"
        built = self._base is None and not (self.experiment.init_from and self.kept.exists())
        before = Update.of(self._first()).model if built else self._before()
        rounds = max(1, abs(index - (self._base or 0)))
        if rounds > MISSED_TURNS * self._rounds_a_turn():
            return f"{rounds} rounds were missed"
        if {n: a.shape for n, a in model.items()} != {n: a.shape for n, a in before.items()}:
            return "it has other tensors"
        for name, array in model.items():
            moved = _length(array - before[name])
            bound = self._bound(name, array.size, rounds) + ROUNDING * _length(before[name])
            # Written so that NaN is refused.
            if not moved <= bound:
                return f"{name} moved by {moved:.3g}, above {bound:.3g}"
        return ""

    def _approved(self, checksum: str) -> bool:
        """Return whether a person approved this model, or joining the run at its current model."""
        approvals, digest = Approvals(self.site), self.experiment.hash()
        return checksum in approvals.models(digest) or self.run in approvals.joined(digest)

    def _strange_start(self, model: Arrays, variates: Arrays) -> str:
        """Return the reason for refusing a first model from an earlier run; empty if acceptable.

        Unless this site holds that earlier model, a person must have approved the experiment,
        whatever the policy: an experiment can name any weights as those of an earlier run.
        """
        start = self.experiment.init_from
        if arrays_fingerprint(model) != start:
            return "it is not the model that the experiment starts from"
        if any(np.any(variate) for variate in variates.values()):
            return "its control variates are not 0"
        if Approvals(self.site).has(self.experiment.hash()) or any(
            record.model == start for _, record, _ in finals(self.site.state)
        ):
            return ""
        return "nobody here has approved the experiment, which starts from an earlier model"

    def _bound(self, name: str, values: int, rounds: int) -> float:
        """Return the largest allowed move of a tensor since the last accepted model.

        It is the server's step for an update of `max_model_step` times this site's own move of a
        round: that of the tensor, or the average move of all values if that is larger, since other
        sites may move the tensor more. Before its first round a site has no move of its own; every
        value may then move by the learning rate at each step, over up to `MISSED_TURNS` rounds.

        Honest runs reached up to 0.23 of this bound (benchmarks/federation/model_steps.py,
        2026-11-27, six rules of aggregation, one seed). A model planted to single out a picture
        exceeded it 2.2 times after a round of 15 steps at a rate of 0.01
        (tests/attacks/test_coordinator_pictures.py), and less after more steps.
        """
        if self._base is None:
            planned = SLACK * self._planned(values) / (1 - self._momentum())
            return min(rounds, MISSED_TURNS) * self._server_step(planned, values)
        own = max(self._norms.get(name, 0.0), self._typical * math.sqrt(values))
        return self._server_step((self.site.policy.max_model_step or 0) * own, values)

    def _before(self) -> Arrays:
        try:
            return decode(self.kept.read_bytes())
        except (OSError, ProtocolError):
            raise IntegrityError(
                "the last model is missing or damaged", where=str(self.kept), fix=DAMAGED
            ) from None

    def _planned(self, values: int) -> float:
        """Return the norm of a round's update if all values move by the learning rate per step."""
        optimiser = self.experiment.optimiser
        return optimiser.lr * self.experiment.federation.local_steps * math.sqrt(values)

    def _momentum(self) -> float:
        server = self.experiment.strategy.server_optimiser
        return server.momentum if server.kind == "sgd" else 0.0

    def _server_step(self, update: float, values: int) -> float:
        """Return the longest step of the server's optimiser for an update of this norm."""
        server = self.experiment.strategy.server_optimiser
        adaptive = 2 * SLACK * server.lr * math.sqrt(values)
        step = update * server.lr if server.kind == "sgd" else adaptive
        return step + self._server_noise(values)

    def _server_noise(self, values: int) -> float:
        """Return the norm of the noise of site-level privacy in a mean over the quorum."""
        privacy, rounds = self.experiment.privacy, self.experiment.federation.rounds
        if privacy.mode != "site":
            return 0.0
        # Imported late: Opacus takes seconds to load.
        from mama.privacy.accounting import noise_multiplier

        sigma = noise_multiplier(privacy.epsilon, privacy.delta, 1.0, rounds)
        quorum = self.experiment.participation.quorum
        return SLACK * sigma * privacy.max_grad_norm * math.sqrt(values) / quorum

    def _rounds_a_turn(self) -> float:
        """Return the average number of rounds between two turns of a site."""
        per_round = self.experiment.participation.sites_per_round
        if isinstance(per_round, list):
            return len(per_round)
        return 1.0 if per_round == "all" else 1.0 / float(per_round)

    def _refused(self, task: Task, checksum: str, reason: str) -> RefusedError:
        command = f"mama-site approve SITE {self.experiment.hash()} --join {self.run}"
        remedy = f"to accept it nevertheless: `{command}`"
        return RefusedError(
            ErrorCode.MODEL_STEP,
            f"the model {checksum[:16]} of {task.kind} {task.round} is refused: {reason}; {remedy}",
        )

    def _write(self) -> None:
        values: dict[str, Any] = {
            "experiment": self._experiment,
            "models": _newest(self._models),
            "trained": _newest(self._trained),
            "given": self._given,
            "base": self._base,
            "norms": self._norms,
            "typical": self._typical,
        }
        write_sealed(self.record, values)


def _newest(by_round: Mapping[str, str]) -> dict[str, str]:
    """Return the newest rounds and round 0, which identifies the run's first model."""
    kept = {*sorted(by_round, key=int)[-REMEMBERED:], *({"0"} & by_round.keys())}
    return {number: by_round[number] for number in sorted(kept, key=int)}


def _length(array: np.ndarray) -> float:
    """Return the Euclidean norm."""
    flat = array.reshape(-1)
    return math.sqrt(float(np.vdot(flat, flat)))


def _equal(one: Arrays, other: Arrays) -> bool:
    """Return whether all tensors are equal up to rounding."""
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape
        and np.allclose(one[name], other[name], rtol=ROUNDING, atol=1e-7)
        for name in one
    )
