"""Private local training: the same model, losses, schedule and AdamW as `mama.trainer`, stepped by noised groups."""

import time
from collections.abc import Generator, Sequence

import torch
from torch import nn

from mama.config import Experiment
from mama.corrections import Correction
from mama.errors import ConfigError
from mama.model import MaMA
from mama.objective import active_terms, encode, losses, weighted_sum
from mama.privacy.groups import SlotPairs
from mama.privacy.ledger import Ledger
from mama.privacy.optimiser import GroupwiseDPOptimizer
from mama.privacy.plan import planned_noise
from mama.privacy.sampler import PoissonGroupSampler
from mama.schedule import learning_rate
from mama.seeds import derive
from mama.trainer import Trainer, TrainingRecord
from mama.workers import world


class PrivateTrainer(Trainer):
    """A trainer of which no step tells more of one patient than the ledger was charged for.

    Every planned step is taken, also one that drew no group. A step is not repeatable, for its groups and its noise are
    drawn by the operating system; taken again it is charged again. What is recorded is for the site alone.

    Raises:
        ConfigError: something in this process would make the bound untrue.
    """

    pairs: SlotPairs

    def __init__(
        self,
        model: MaMA,
        pairs: SlotPairs,
        experiment: Experiment,
        device: torch.device,
        ledger: Ledger,
        corrections: Sequence[Correction] = (),
    ):
        super().__init__(model, pairs, experiment, device, corrections)
        _refuse(model, scaled=self.scaler.is_enabled())
        config = experiment.privacy
        self.ledger = ledger
        self.sampler = PoissonGroupSampler(config.slots, config.group_size, config.sample_rate)
        self.private = GroupwiseDPOptimizer(
            self.optimiser,
            noise_multiplier=planned_noise(experiment),
            max_grad_norm=config.max_grad_norm,
            expected_groups=config.sample_rate * config.groups,
        )
        # After the noise, where whatever is done to the gradient costs nothing.
        self.private.attach_step_hook(lambda _: self._correct())

    def steps(self, steps: range, record: TrainingRecord) -> Generator[int, None, None]:
        """Take these global steps as `Trainer.steps` does, each after it was charged.

        Raises:
            BudgetError: the budget does not cover them all; none is taken.
            PrivacyError: a step could not be charged; it is not taken.
        """
        cost = self.private.noise_multiplier, self.sampler.sample_rate
        self.ledger.require_budget(len(steps), *cost)
        self.model.train()
        for step in steps:
            begin = time.perf_counter()
            self.ledger.reserve(step, *cost)
            self._private_step(step, record)
            record.seconds += time.perf_counter() - begin
            record.steps += 1
            yield step

    def _private_step(self, step: int, record: TrainingRecord) -> None:
        config, total = self.experiment.optimiser, self.experiment.total_steps
        for part in self.optimiser.param_groups:
            part["lr"] = learning_rate(step, total, config.lr, config.warmup)
        terms = active_terms(self.experiment.loss, step / total)
        self.private.zero_grad(set_to_none=True)
        for place, slots in enumerate(self.sampler.draw()):
            # A seed a group: with one stream for all, dropout would carry a group's absence to the next.
            torch.manual_seed(derive(self.experiment.seed, self.pairs.stream, "group", step, place))
            self._add_group(step, slots, terms, record)
        self.private.step()
        self._limit_scales()

    def _add_group(
        self, step: int, slots: list[int], terms: list[str], record: TrainingRecord
    ) -> None:
        batch = self.pairs.group(step, slots)
        if batch is None:
            record.lost += 1
            return
        loss_config = self.experiment.loss
        with self.autocast():
            encoded = encode(self.model, batch.to(self.device), terms)
            scales = self.model.logit_scale, self.model.local_scale
            loss = weighted_sum(losses(encoded, *scales, loss_config, terms), loss_config)
        record.sums.setdefault("loss", []).append(float(loss.detach()))
        record.truncated += int(encoded.truncated.sum())
        self.private.add_group(loss)

    def _correct(self) -> None:
        for correct in self.corrections:
            correct(self.parameters)


def _refuse(model: nn.Module, *, scaled: bool) -> None:
    """What only a process can see; the rest is refused where the experiment is read."""
    if scaled:
        raise ConfigError(
            "fp16's loss scale would carry one patient's overflow to other steps",
            where="compute.precision",
            fix="Set it to bf16 or fp32",
        )
    if world()[1] > 1:
        raise ConfigError(
            "private training takes one process, for each would draw noise of its own",
            where="privacy.mode",
            fix="Start it without torchrun",
        )
    for module in model.modules():
        # BatchNorm and InstanceNorm alike: averages that are neither clipped nor noised.
        if getattr(module, "running_mean", None) is not None:
            raise ConfigError(
                "the model keeps running statistics, which are neither clipped nor noised",
                where="privacy.mode",
                fix="Take a tower without BatchNorm",
            )
