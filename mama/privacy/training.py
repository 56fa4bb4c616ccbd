"""Private local training: the trainer's model, losses, schedule and AdamW, on noised group sums."""

import time
from collections.abc import Generator, Sequence

import torch
from torch import Tensor, nn

from mama.config import Experiment
from mama.errors import ConfigError
from mama.model import MaMA
from mama.privacy.groups import SlotPairs
from mama.privacy.ledger import Ledger
from mama.privacy.optimiser import GroupwiseDPOptimizer
from mama.privacy.plan import planned_noise
from mama.privacy.sampler import PoissonGroupSampler
from mama.system.seeds import derive
from mama.training.diagnostics import TrainingRecord
from mama.training.distributed import world
from mama.training.hooks import GradientHook
from mama.training.objective import active_terms, encode, losses, weighted_sum
from mama.training.schedule import learning_rate
from mama.training.trainer import Trainer


class PrivateTrainer(Trainer):
    """Trainer whose steps reveal no more about one patient than the ledger was charged for.

    Every planned step is taken, even if it draws no group. Steps are not repeatable, because groups
    and noise come from the operating system's entropy; a repeated step is charged again. The
    training record is for the site alone.

    Args:
        model: the model.
        pairs: study pairs of the patient slots.
        experiment: privacy, optimiser and loss settings.
        device: device of the model.
        ledger: charged before each step.
        hooks: applied to the gradients after the noise.

    Raises:
        ConfigError: a property of this process or model would invalidate the bound.
    """

    pairs: SlotPairs

    def __init__(
        self,
        model: MaMA,
        pairs: SlotPairs,
        experiment: Experiment,
        device: torch.device,
        ledger: Ledger,
        hooks: Sequence[GradientHook] = (),
    ):
        super().__init__(model, pairs, experiment, device, hooks)
        _require_supported(model, scaled=self.scaler.is_enabled())
        config = experiment.privacy
        self.ledger = ledger
        self.sampler = PoissonGroupSampler(config.slots, config.group_size, config.sample_rate)
        self.private = GroupwiseDPOptimizer(
            self.optimiser,
            noise_multiplier=planned_noise(experiment),
            max_grad_norm=config.max_grad_norm,
            expected_groups=config.sample_rate * config.groups,
        )
        # After the noise: post-processing of the gradient costs no privacy.
        self.private.attach_step_hook(lambda _: self._correct())

    def steps(self, steps: range, record: TrainingRecord) -> Generator[int, None, None]:
        """Run these global steps as `Trainer.steps` does, charging each before it runs.

        Raises:
            BudgetError: the budget does not cover all of them; none is taken.
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
        values = []
        for index, slots in enumerate(self.sampler.draw()):
            # One seed per group: with a shared stream, a lost group would change the next dropout.
            torch.manual_seed(derive(self.experiment.seed, self.pairs.stream, "group", step, index))
            values += self._add_group(step, slots, terms, record)
        self.private.step()
        self._limit_scales()
        if values:
            record.sums.setdefault("loss", []).extend(torch.stack(values).tolist())

    def _add_group(
        self, step: int, slots: list[int], terms: list[str], record: TrainingRecord
    ) -> list[Tensor]:
        """Add a group's clipped gradient; return its loss, or nothing if a slot is empty."""
        batch = self.pairs.group(step, slots)
        if batch is None:
            record.lost += 1
            return []
        batch = self.ready(batch)
        loss_config = self.experiment.loss
        with self.autocast():
            encoded = encode(self.model, batch.to(self.device), terms)
            scales = self.model.logit_scale, self.model.local_scale
            loss = weighted_sum(losses(encoded, *scales, loss_config, terms), loss_config)
        record.truncated += int(encoded.truncated.sum())
        self.private.add_group(loss)
        return [loss.detach()]

    def _correct(self) -> None:
        for hook in self.hooks:
            hook(self.parameters)


def _require_supported(model: nn.Module, *, scaled: bool) -> None:
    """Refuse what depends on process and model; the experiment itself was validated on reading."""
    if scaled:
        raise ConfigError(
            "the loss scale of fp16 would carry one patient's overflow into other steps",
            where="compute.precision",
            fix="Set compute.precision to bf16 or fp32",
        )
    if world()[1] > 1:
        raise ConfigError(
            "private training needs a single process, since each would draw its own noise",
            where="privacy.mode",
            fix="Start it without torchrun",
        )
    for module in model.modules():
        # Both BatchNorm and InstanceNorm: averages that are neither clipped nor noised.
        if getattr(module, "running_mean", None) is not None:
            raise ConfigError(
                "the model keeps running statistics, which are neither clipped nor noised",
                where="privacy.mode",
                fix="Choose a tower without BatchNorm",
            )
