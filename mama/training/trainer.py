"""Trainer for MaMA on the study pairs of one site, alone or in a federation."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mama.config import Experiment
from mama.data.pairs import Batch, StudyPairs
from mama.errors import ConfigError, TrainingError
from mama.model import MaMA
from mama.system.seeds import derive
from mama.system.tensors import load_optimiser, save_optimiser
from mama.towers.tissue import BACKGROUND
from mama.training.device import autocast, choose_precision
from mama.training.diagnostics import TrainingRecord, health
from mama.training.distributed import gathered, share, sum_gradients, world
from mama.training.gradient import add_gradient
from mama.training.guidance import GlobalAnchor
from mama.training.hooks import GradientHook, Named
from mama.training.objective import Encoded, active_terms, has_contrast
from mama.training.schedule import learning_rate

MAX_SKIPPED = 10

WORKERS = 8  # threads that make batches while a GPU works; on the CPU they would compete for cores


class Trainer:
    """AdamW training of the trained parameters of one model.

    Weights stay fp32; the forward pass uses autocast if the device benefits from it. A step is a
    function of the weights, the optimiser state and its global number, so training can resume at
    any step.

    Args:
        model: the model, already on the device.
        pairs: source of the batches.
        experiment: the configuration.
        device: device of this process.
        hooks: called with the named parameters after a step's backward pass, before clipping by
            length (which is not that of differential privacy, `mama.privacy.training`).
        anchor: keeps embeddings close to those of the global model.

    Raises:
        ConfigError: a batch cannot be divided as configured.
    """

    def __init__(
        self,
        model: MaMA,
        pairs: StudyPairs,
        experiment: Experiment,
        device: torch.device,
        hooks: Sequence[GradientHook] = (),
        anchor: GlobalAnchor | None = None,
    ):
        _check(experiment, pairs.batch_size)
        self.model, self.pairs, self.experiment, self.device = model, pairs, experiment, device
        self.hooks, self.anchor = hooks, anchor
        self.parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        config = experiment.optimiser
        self.optimiser = torch.optim.AdamW(
            _decay_groups(self.parameters, config.weight_decay, config.decay_everything),
            lr=config.lr,
            betas=config.betas,
            fused=device.type == "cuda",
        )
        self.chunk = experiment.compute.chunk
        precision = choose_precision(experiment.compute.precision, device)
        self.autocast = partial(autocast, device, precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        model.prepare(experiment.compute)

    def train(
        self, first_step: int, steps: int, progress: Callable[[int], None] | None = None
    ) -> TrainingRecord:
        """Take the global steps `first_step` to `first_step + steps - 1`.

        Raises:
            TrainingError: see `steps`.
        """
        record = TrainingRecord()
        for step in self.steps(range(first_step, first_step + steps), record):
            if progress:
                progress(step)
        return record

    def steps(self, steps: range, record: TrainingRecord) -> Generator[int, None, None]:
        """Take these global steps, recording and yielding each; closing the generator stops.

        Raises:
            TrainingError: more than MAX_SKIPPED consecutive steps had a non-finite loss or
                gradient, or a step with one study exceeds the device's memory.
        """
        self.model.train()
        accumulate = self.experiment.optimiser.accumulate
        made = self.pairs.batches(
            range(steps.start * accumulate, steps.stop * accumulate),
            share=share,
            workers=WORKERS if self.device.type == "cuda" else 0,
            ready=self.ready,
        )
        with closing(made) as batches:
            for step in steps:
                begin = time.perf_counter()
                terms = self._step(step, [next(batches) for _ in range(accumulate)], record)
                record.seconds += time.perf_counter() - begin
                if terms is None:
                    record.skipped, record.in_a_row = record.skipped + 1, record.in_a_row + 1
                    if record.in_a_row > MAX_SKIPPED:
                        raise TrainingError(
                            f"loss or gradient stays non-finite: {record.non_finite_terms()}",
                            where=f"step {step}",
                            fix="Lower optimiser.lr or use compute.precision fp32",
                        )
                else:
                    record.steps, record.in_a_row = record.steps + 1, 0
                    for name, value in terms.items():
                        record.sums.setdefault(name, []).append(value)
                record.done = step + 1
                yield step

    def save(self, path: Path) -> None:
        """Save the optimiser state for the next round."""
        save_optimiser(path, self.optimiser, self.scaler.state_dict())

    def load(self, path: Path) -> None:
        """Restore the state written by `save`."""
        scaler = load_optimiser(path, self.optimiser)
        if self.scaler.is_enabled() and isinstance(scaler, dict):
            self.scaler.load_state_dict(scaler)

    def _step(
        self, step: int, batches: list[Batch], record: TrainingRecord
    ) -> dict[str, float] | None:
        config, total = self.experiment.optimiser, self.experiment.total_steps
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, total, config.lr, config.warmup)
        terms = active_terms(self.experiment.loss, step / total)
        record.blank += int(gathered(torch.tensor([batch.blank for batch in batches])).sum())
        values, encoded, cut, contrast = self._gradient(step, batches, terms)
        record.truncated += cut
        record.chunk = self.chunk if self.chunk != self.experiment.compute.chunk else None
        # The step's one wait for a GPU, but for the norm of the gradient.
        rows = torch.stack([torch.stack([*v.values()]) for v in values]).tolist()
        means = {name: sum(row[i] for row in rows) / len(rows) for i, name in enumerate(values[0])}
        if bad := [name for name in terms if not math.isfinite(means[name])]:
            record.not_finite.update(bad)
            return None
        if math.isfinite(means["loss"]) and not contrast:
            # An update would consist of weight decay only.
            record.flat += 1
            return means
        if not math.isfinite(means["loss"]) or not self._update():
            record.not_finite["gradient" if math.isfinite(means["loss"]) else "loss"] += 1
            return None
        # Of the last batch, like the embeddings; its patches are not needed.
        small = encoded._replace(patches=encoded.patches[:0])
        scale = self.model.logit_scale.detach().clone()
        last = dict(zip(values[-1], rows[-1], strict=True)).get("image_text", math.nan)
        record.diagnose = partial(health, small, scale, last)
        return means

    def _gradient(
        self, step: int, batches: list[Batch], terms: list[str]
    ) -> tuple[list[dict[str, Tensor]], Encoded, int, bool]:
        """Compute the whole step's gradient, halving the chunk while it exceeds GPU memory."""
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            values, cut, contrast = [], 0, False
            try:
                for place, batch in enumerate(batches):
                    # Seeds LoRA's dropout; batches have their own seeds.
                    names = (self.pairs.stream, "step", step, place, world()[0])
                    torch.manual_seed(derive(self.experiment.seed, *names))
                    numbers, encoded = add_gradient(
                        self.model,
                        batch.to(self.device),
                        self.experiment.loss,
                        terms,
                        chunk=self.chunk,
                        autocast=self.autocast,
                        scale=self._scaled,
                        anchor=self.anchor,
                    )
                    values.append(numbers)
                    cut += int(encoded.truncated.sum())
                    contrast = contrast or has_contrast(encoded, terms)
                return values, encoded, cut, contrast
            except torch.OutOfMemoryError:
                chunk = min(self.chunk or len(batch), len(batch)) // 2
                whole = world()[1] > 1 or self.experiment.heads.norm == "batch"
                if chunk == 0 or whole:
                    raise TrainingError(
                        "the device has too little memory for this step",
                        where="compute.chunk",
                        fix="Lower it, set compute.checkpointing, or use a smaller image or tower",
                    ) from None
            # Outside the handler, which would keep the failed attempt's tensors alive.
            self.chunk = chunk
            torch.cuda.empty_cache()

    def ready(self, batch: Batch) -> Batch:
        """Prepare a batch in the thread that makes it, so that a step need not wait."""
        first, second = batch.first, batch.second
        kept = self.model.image.kept(first), self.model.image.kept(second)
        batch = replace(batch, kept=kept, blank=_blank(first) + _blank(second))
        return batch.pinned() if self.device.type == "cuda" else batch

    def _scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss / self.experiment.optimiser.accumulate)

    def _update(self) -> bool:
        """Take a step along the gradient; return False if the gradient is not finite."""
        sum_gradients(parameter for _, parameter in self.parameters)
        self.scaler.unscale_(self.optimiser)
        for hook in self.hooks:
            hook(self.parameters)
        norm = torch.nn.utils.clip_grad_norm_(
            [parameter for _, parameter in self.parameters],
            self.experiment.optimiser.clip_norm or math.inf,
        )
        finite = bool(torch.isfinite(norm))
        if finite:
            self.scaler.step(self.optimiser)
            self._limit_scales()
        self.scaler.update()
        return finite

    def _limit_scales(self) -> None:
        limit = math.log(self.experiment.loss.max_scale)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=limit)
            self.model.local_scale.clamp_(max=limit)


def _blank(views: Tensor) -> int:
    return int((views.amax((1, 2, 3)) <= BACKGROUND).sum())


def _check(experiment: Experiment, studies: int) -> None:
    processes = world()[1]
    if studies < processes:
        raise ConfigError(
            f"a batch of {studies} cannot be divided among {processes} processes",
            where="optimiser.batch_size",
            fix="Start fewer processes",
        )
    if experiment.heads.norm == "batch" and (experiment.compute.chunk or processes > 1):
        raise ConfigError(
            "batch statistics need the whole batch at once",
            where="heads.norm",
            fix="Set it to layer, or use one process and no compute.chunk",
        )


def _decay_groups(parameters: Named, weight_decay: float, everything: bool) -> list[dict]:
    """Return groups with weight decay for matrices only; the paper decays everything."""
    decayed = [p for _, p in parameters if everything or p.ndim >= 2]
    spared = [p for _, p in parameters if not everything and p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
