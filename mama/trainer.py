"""Local training: MaMA's steps on one site's study pairs. The same code trains alone and in a federation."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mama.checkpoint import load_optimiser, save_optimiser
from mama.config import Experiment
from mama.data.pairs import Batch, StudyPairs
from mama.errors import TrainingError
from mama.model import MaMA
from mama.objective import active_terms, losses
from mama.precision import autocast, choose_precision
from mama.schedule import learning_rate
from mama.seeds import derive

MAX_SKIPPED = 10


@dataclass
class TrainingRecord:
    """What a stretch of training did: mean of each term over its steps, and the time it took in seconds."""

    steps: int = 0
    skipped: int = 0
    seconds: float = 0.0
    sums: dict[str, list[float]] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Mean of each term over the steps in which it took part."""
        return {name: sum(values) / len(values) for name, values in self.sums.items()}


class Trainer:
    """AdamW on the trained parameters of one model.

    Weights stay fp32; the forward pass runs under autocast where the device gains from it. A step is a
    function of the weights, the optimiser's state and its global number, so training resumes at any step.
    """

    def __init__(
        self, model: MaMA, pairs: StudyPairs, experiment: Experiment, device: torch.device
    ):
        self.model, self.pairs, self.experiment, self.device = model, pairs, experiment, device
        config = experiment.optimiser
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            _decay_groups(model, config.weight_decay), lr=config.lr, betas=config.betas
        )
        self.precision = choose_precision(experiment.compute.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == torch.float16)

    def train(
        self, first_step: int, steps: int, progress: Callable[[int], None] | None = None
    ) -> TrainingRecord:
        """Take the global steps `first_step` .. `first_step + steps - 1`.

        Raises:
            TrainingError: more than MAX_SKIPPED steps in a row gave a loss that is not finite.
        """
        record, in_a_row = TrainingRecord(), 0
        begin = time.perf_counter()
        self.model.train()
        for step in range(first_step, first_step + steps):
            terms = self._step(step)
            if terms is None:
                record.skipped += 1
                in_a_row += 1
                if in_a_row > MAX_SKIPPED:
                    raise TrainingError(
                        "the loss is not finite step after step",
                        where=f"step {step}",
                        fix="Lower optimiser.lr or use precision fp32",
                    )
                continue
            record.steps, in_a_row = record.steps + 1, 0
            for name, value in terms.items():
                record.sums.setdefault(name, []).append(value)
            if progress:
                progress(step)
        record.seconds = time.perf_counter() - begin
        return record

    def save(self, path: Path) -> None:
        """Keep the optimiser's state for the next round."""
        save_optimiser(path, self.optimiser)

    def load(self, path: Path) -> None:
        """Take up the state that `save` kept."""
        load_optimiser(path, self.optimiser)

    def _step(self, step: int) -> dict[str, float] | None:
        config, total = self.experiment.optimiser, self.experiment.total_steps
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, total, config.lr, config.warmup)
        # Seeds LoRA's dropout; the batch seeds its own choices.
        torch.manual_seed(derive(self.experiment.seed, self.pairs.stream, "step", step))
        terms = self._losses(_to(self.pairs.batch(step), self.device), step / total)
        weights = self.experiment.loss
        loss = torch.stack(
            [getattr(weights, name).weight * term for name, term in terms.items()]
        ).sum()
        self.optimiser.zero_grad(set_to_none=True)
        if not torch.isfinite(loss):
            return None
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip_norm)
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            return None
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._limit_scales()
        return {name: float(term.detach()) for name, term in terms.items()} | {
            "loss": float(loss.detach())
        }

    def _losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        with autocast(self.device, self.precision):
            config = self.experiment.loss
            return losses(self.model, batch, config, active_terms(config, progress))

    def _limit_scales(self) -> None:
        limit = torch.log(torch.tensor(self.experiment.loss.max_scale)).item()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=limit)
            self.model.local_scale.clamp_(max=limit)


def _decay_groups(model: MaMA, weight_decay: float) -> list[dict]:
    """Weight decay for matrices only: not for biases, norms and scales."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.first.to(device), batch.second.to(device), batch.reports)
