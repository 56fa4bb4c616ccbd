"""The descent of a run's models: each must follow from the one before, and the first from the experiment alone.

A coordinator that may send any weights can choose ones that single out a patient (Fowl et al., "Robbing the Fed",
ICLR 2022). So the first model must be the one that this site builds from the experiment and its own base models, a
later one must lie within a bounded step of the last in each of its tensors, and a round has one model. A planted tensor
moves far, but one norm over all tensors would let it hide behind the many that may move. This bounds the speed of a
drift: a patient coordinator can still steer the model over many rounds, each resting on many patients.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.approval import Approvals
from client.finals import finals
from client.plan import round_of_model
from client.refused import RefusedError
from client.sitefile import SiteFile
from mama.config import Experiment
from mama.errors import IntegrityError, ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codes import ErrorCode
from mama.exchange.coding import decode, encode
from mama.exchange.fingerprint import arrays_fingerprint
from mama.exchange.method import split
from mama.exchange.protocol import Task
from mama.files import write_bytes
from mama.sealed import read_sealed, write_sealed

# Models of so many rounds are remembered by checksum.
REMEMBERED = 20
# A site may miss so many of its turns before a person has to say that the run's model is to be trusted.
MISSED_TURNS = 10
# Equal seeds give equal weights up to the last bits of another processor's arithmetic.
ROUNDING = 1e-5
# Adam-like steps may exceed the learning rate in a few values; a mean over a tensor's does not by this factor.
SLACK = 2.0
DAMAGED = (
    "Restore the site's state folder, or approve with --join the run that is to be trusted as it is"
)


class Lineage:
    """The models that one site has seen of one run.

    Args:
        first: builds the experiment's first model anew (its trained tensors).
        first_checksum: of that model as a block.

    Raises:
        IntegrityError: the record of the models is damaged.
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
        self.record, self.kept = folder / "lineage.json", folder / "trained_from.safetensors"
        found = read_sealed(self.record, DAMAGED) or {}
        self._experiment: str = found.get("experiment", experiment.hash())
        # Checksums by the number of rounds that made the model, and those that rounds were trained from.
        self._models: dict[str, str] = found.get("models", {})
        self._trained: dict[str, str] = found.get("trained", {})
        # The model of `trained_from.safetensors`, and the norm of each tensor of the whole round's update sent for it,
        # with those before as far as the server's momentum carries them.
        self._base: int | None = found.get("base")
        self._norms: dict[str, float] = found.get("norms", {})
        # The root mean square of all values of that update, in the same way.
        self._typical: float = found.get("typical", 0.0)

    def accept(self, task: Task, arrays: Arrays, checksum: str) -> None:
        """Take the model that came with a task, or refuse it.

        Raises:
            RefusedError: the run has another experiment, the round another model, or the model does not follow.
        """
        if self._experiment != self.experiment.hash():
            raise RefusedError(ErrorCode.POLICY_PLAN, "the run is of another experiment")
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
            # The coordinator went back to an older checkpoint: what followed from it is done anew.
            self._models = {n: c for n, c in self._models.items() if int(n) <= index}
        self._models[str(index)] = checksum
        if self._models != before:
            if index == 0 and self.experiment.init_from and self._base is None:
                # This site cannot build it again.
                write_bytes(self.kept, encode(split(arrays)[0]))
            self._write()

    def is_repeated(self, task: Task, checksum: str) -> bool:
        """True if this round was trained from this model before, which gives the same update."""
        return self._trained.get(str(task.round)) == checksum

    def trained(
        self, task: Task, arrays: Arrays, checksum: str, update: Arrays, share: float
    ) -> None:
        """Remember what a round was trained from and how long each tensor of its update is.

        Args:
            share: the part of the round's planned steps that was taken.
        """
        model, _ = split(arrays)
        if self.site.policy.max_model_step is not None:
            write_bytes(self.kept, encode(model))
            self._base = round_of_model(task)
        moves, momentum = split(update)[0], self._momentum()
        norms = {name: _length(array) / share for name, array in moves.items()}
        values = sum(array.size for array in moves.values())
        typical = math.hypot(*norms.values()) / math.sqrt(max(1, values))
        self._norms = {n: norm + momentum * self._norms.get(n, 0.0) for n, norm in norms.items()}
        self._typical = typical + momentum * self._typical
        self._trained[str(task.round)] = checksum
        self._write()

    def _strange(self, index: int, arrays: Arrays, checksum: str) -> str:
        """The reason why a model does not follow from what is known; empty if it does."""
        approvals, digest = Approvals(self.site), self.experiment.hash()
        if checksum in approvals.models(digest) or self.run in approvals.joined(digest):
            return ""
        model, variates = split(arrays)
        if index == 0 and self.experiment.init_from:
            return self._strange_start(model, variates)
        if index == 0:
            if checksum == self._first_checksum:
                return ""
            return (
                "" if _equal(model, split(self._first())[0]) else "it is not the experiment's first"
            )
        built = self._base is None and not (self.experiment.init_from and self.kept.exists())
        before = split(self._first())[0] if built else self._before()
        rounds = max(1, abs(index - (self._base or 0)))
        if rounds > MISSED_TURNS * self._rounds_a_turn():
            return f"{rounds} rounds were missed"
        if {n: a.shape for n, a in model.items()} != {n: a.shape for n, a in before.items()}:
            return "it has other tensors"
        for name, array in model.items():
            moved = _length(array - before[name])
            bound = self._bound(name, array.size, rounds) + ROUNDING * _length(before[name])
            # Written so that a distance which is no number is refused.
            if not moved <= bound:
                return f"{name} moved by {moved:.3g}, above {bound:.3g}"
        return ""

    def _strange_start(self, model: Arrays, variates: Arrays) -> str:
        """The reason why a model is not the earlier one that the experiment names; empty if it is.

        A person must have approved the experiment, whatever the policy: any weights can be named as an earlier run's.
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
        """The furthest that a tensor may move until this site sees it again, over a few missed rounds too.

        Honest runs went up to 0.23 of this bound (benchmarks/model_steps.py, 2026-11-27, six rules of aggregation, one
        seed). A model planted to single out a picture went 2.2 times beyond it after a round of 15 steps at a rate of
        0.01 (tests/attacks/test_coordinator_pictures.py), and less after more steps.

        It is `max_model_step` times the server's step for this site's own move of a round: that of the tensor, or,
        where this site moved it less than others may, the average move of all values. Before its first round a site
        has no move of its own; every value may then move by the learning rate at each step.
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
        """The norm of a round's update of so many values, each of which moves by the learning rate at each step."""
        optimiser = self.experiment.optimiser
        return optimiser.lr * self.experiment.federation.local_steps * math.sqrt(values)

    def _momentum(self) -> float:
        server = self.experiment.federation.server_optimiser
        return server.momentum if server.kind == "sgd" else 0.0

    def _server_step(self, update: float, values: int) -> float:
        """The longest step that the server's optimiser makes of updates of this length."""
        server = self.experiment.federation.server_optimiser
        adaptive = 2 * SLACK * server.lr * math.sqrt(values)
        step = update * server.lr if server.kind == "sgd" else adaptive
        return step + self._server_noise(values)

    def _server_noise(self, values: int) -> float:
        """The length of the noise that site-level privacy adds to a mean of as few sites as there may be."""
        privacy, federation = self.experiment.privacy, self.experiment.federation
        if privacy.mode != "site":
            return 0.0
        # Imported late: Opacus takes seconds to load.
        from mama.privacy.accounting import noise_multiplier

        sigma = noise_multiplier(privacy.epsilon, privacy.delta, 1.0, federation.rounds)
        return SLACK * sigma * privacy.max_grad_norm * math.sqrt(values) / federation.quorum

    def _rounds_a_turn(self) -> float:
        """The average number of rounds between two turns of a site."""
        asked = self.experiment.federation.sites_per_round
        if isinstance(asked, list):
            return len(asked)
        return 1.0 if asked == "all" else 1.0 / float(asked)

    def _refused(self, task: Task, checksum: str, reason: str) -> RefusedError:
        remedy = f"to take it all the same: `mama-site approve SITE {self.experiment.hash()} --join {self.run}`"
        return RefusedError(
            ErrorCode.MODEL_STEP,
            f"the model {checksum[:16]} of {task.kind} {task.round} is refused: {reason}; {remedy}",
        )

    def _write(self) -> None:
        values: dict[str, Any] = {
            "experiment": self._experiment,
            "models": _newest(self._models),
            "trained": _newest(self._trained),
            "base": self._base,
            "norms": self._norms,
            "typical": self._typical,
        }
        write_sealed(self.record, values)


def _newest(by_round: Mapping[str, str]) -> dict[str, str]:
    return {number: by_round[number] for number in sorted(by_round, key=int)[-REMEMBERED:]}


def _length(array: np.ndarray) -> float:
    """The Euclidean norm."""
    flat = array.reshape(-1)
    return math.sqrt(float(np.vdot(flat, flat)))


def _equal(one: Arrays, other: Arrays) -> bool:
    """True if all tensors are the same up to rounding."""
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape
        and np.allclose(one[name], other[name], rtol=ROUNDING, atol=1e-7)
        for name in one
    )
