"""Local training: MaMA's steps on one site's study pairs. The same code trains alone and in a federation."""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mama.checkpoint import load_optimiser, save_optimiser
from mama.config import Experiment
from mama.corrections import Correction, Named
from mama.data.pairs import Batch, StudyPairs
from mama.errors import ConfigError, TrainingError
from mama.gradient import add_gradient
from mama.guide import Guide
from mama.health import Health, health
from mama.model import MaMA
from mama.objective import Encoded, active_terms, has_contrast
from mama.precision import autocast, choose_precision
from mama.schedule import learning_rate
from mama.seeds import derive
from mama.towers.tissue import BACKGROUND
from mama.workers import gathered, share, sum_gradients, world

MAX_SKIPPED = 10

AHEAD = 2  # batches made while a GPU works; without one they would only compete for the processor


@dataclass
class TrainingRecord:
    """What a stretch of training did.

    `done` are the global steps taken when it ended, `skipped` the steps of this stretch that were not taken,
    `in_a_row` of them last, and `not_finite` what was to blame for them, and how often. `sums` has each term's values
    over the steps; `truncated` counts reports that were cut at `max_tokens`, `blank` images without tissue, `lost`
    private groups with an empty slot, `flat` steps in which nothing could be confused, so that no update was
    made, and `chunk` is the caching chunk that fitted the device's memory, if it had to be
    lowered. `health` is of the last step.
    """

    done: int = 0
    steps: int = 0
    skipped: int = 0
    in_a_row: int = 0
    not_finite: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    sums: dict[str, list[float]] = field(default_factory=dict)
    truncated: int = 0
    blank: int = 0
    lost: int = 0
    flat: int = 0
    chunk: int | None = None
    health: Health | None = None

    def __post_init__(self) -> None:
        self.not_finite = Counter(self.not_finite)  # a dict where it comes from JSON

    @property
    def taken(self) -> int:
        """Steps that were taken or skipped."""
        return self.steps + self.skipped

    def counted(self) -> dict[str, Any]:
        """All but the health, as JSON values: `TrainingRecord(**counted)` goes on counting."""
        return {name: value for name, value in vars(self).items() if name != "health"}

    def means(self) -> dict[str, float]:
        """Mean of each term over the steps in which it took part."""
        return {name: sum(values) / len(values) for name, values in self.sums.items()}

    def to_blame(self) -> str:
        """What was not finite and in how many steps, the most frequent first."""
        return ", ".join(f"{name} ({count})" for name, count in self.not_finite.most_common())

    def remarks(self) -> list[str]:
        """What the data brought along, for the site's log."""
        counts = {
            "reports were cut at text.max_tokens": self.truncated,
            "images without tissue were encoded whole": self.blank,
            "groups had an empty or unreadable slot and contributed nothing": self.lost,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]

    def warnings(self, progress: float) -> list[str]:
        """What a person should look at, given the fraction of the planned steps done; for the site alone."""
        found = self.health.warnings(progress, self.done) if self.health else []
        if self.skipped:
            found.append(f"{self.skipped} steps were skipped, not finite: {self.to_blame()}")
        if self.flat:
            found.append(
                f"{self.flat} of {self.steps} steps had one patient or one report alone, and trained nothing"
            )
        if self.chunk is not None:
            found.append(f"memory was short: compute.chunk is {self.chunk} now")
        return found


class Trainer:
    """AdamW on the trained parameters of one model.

    Weights stay fp32; the forward pass runs under autocast where the device gains from it. A step is a
    function of the weights, the optimiser's state and its global number, so training resumes at any step.

    Args:
        corrections: called with the named parameters once a step's gradient is whole, before it is clipped.
        guide: keeps embeddings near those of the global model.

    Raises:
        ConfigError: a batch cannot be divided as asked.
    """

    def __init__(
        self,
        model: MaMA,
        pairs: StudyPairs,
        experiment: Experiment,
        device: torch.device,
        corrections: Sequence[Correction] = (),
        guide: Guide | None = None,
    ):
        _check(experiment, pairs.batch_size)
        self.model, self.pairs, self.experiment, self.device = model, pairs, experiment, device
        self.corrections, self.guide = corrections, guide
        self.parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        config = experiment.optimiser
        self.optimiser = torch.optim.AdamW(
            _decay_groups(self.parameters, config.weight_decay, config.decay_everything),
            lr=config.lr,
            betas=config.betas,
        )
        self.chunk = experiment.compute.chunk
        precision = choose_precision(experiment.compute.precision, device)
        self.autocast = partial(autocast, device, precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        model.prepare(experiment.compute)

    def train(
        self, first_step: int, steps: int, progress: Callable[[int], None] | None = None
    ) -> TrainingRecord:
        """Take the global steps `first_step` .. `first_step + steps - 1`.

        Raises:
            TrainingError: as `steps` does.
        """
        record = TrainingRecord()
        for step in self.steps(range(first_step, first_step + steps), record):
            if progress:
                progress(step)
        return record

    def steps(self, steps: range, record: TrainingRecord) -> Generator[int, None, None]:
        """Take these global steps, count each in `record` and yield it; whoever stops asking stops training.

        Raises:
            TrainingError: more than MAX_SKIPPED steps in a row gave a loss or gradient that is not finite, or a step
                of one study does not fit the device's memory.
        """
        self.model.train()
        accumulate = self.experiment.optimiser.accumulate
        made = self.pairs.batches(
            range(steps.start * accumulate, steps.stop * accumulate),
            share=share,
            ahead=AHEAD if self.device.type == "cuda" else 0,
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
                            f"not finite step after step: {record.to_blame()}",
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
        """Keep the optimiser's state for the next round."""
        save_optimiser(path, self.optimiser, self.scaler.state_dict())

    def load(self, path: Path) -> None:
        """Take up the state that `save` kept."""
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
        blank = torch.tensor([_blank(b.first) + _blank(b.second) for b in batches])
        record.blank += int(gathered(blank).sum())
        values, encoded, cut, contrast = self._gradient(step, batches, terms)
        record.truncated += cut
        record.chunk = self.chunk if self.chunk != self.experiment.compute.chunk else None
        means = {name: sum(v[name] for v in values) / len(values) for name in values[0]}
        if bad := [name for name in terms if not math.isfinite(means[name])]:
            record.not_finite.update(bad)
            return None
        if math.isfinite(means["loss"]) and not contrast:
            # Weight decay alone is no training.
            record.flat += 1
            return means
        if not math.isfinite(means["loss"]) or not self._update():
            record.not_finite["gradient" if math.isfinite(means["loss"]) else "loss"] += 1
            return None
        # Of the last batch, as its embeddings are.
        loss = values[-1].get("image_text", math.nan)
        record.health = health(encoded, self.model.logit_scale, loss)
        return means

    def _gradient(
        self, step: int, batches: list[Batch], terms: list[str]
    ) -> tuple[list[dict[str, float]], Encoded, int, bool]:
        """The whole step's gradient; a chunk that does not fit the GPU's memory is halved and tried again."""
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            values, cut, contrast = [], 0, False
            try:
                for place, batch in enumerate(batches):
                    # Seeds LoRA's dropout; the batch seeds its own choices.
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
                        guide=self.guide,
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
                        fix="Lower it, set compute.checkpointing, or take a smaller image or tower",
                    ) from None
            # Outside the handler, which would keep the failed attempt's tensors alive.
            self.chunk = chunk
            torch.cuda.empty_cache()

    def _scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss / self.experiment.optimiser.accumulate)

    def _update(self) -> bool:
        """Take a step along the gradient; False when that is not finite."""
        sum_gradients(parameter for _, parameter in self.parameters)
        self.scaler.unscale_(self.optimiser)
        for correct in self.corrections:
            correct(self.parameters)
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
            f"a batch of {studies} does not go round {processes} processes",
            where="optimiser.batch_size",
            fix="Start fewer processes",
        )
    if experiment.heads.norm == "batch" and (experiment.compute.chunk or processes > 1):
        raise ConfigError(
            "batch statistics need the whole batch in one piece",
            where="heads.norm",
            fix="Set it to layer, or take one process and no compute.chunk",
        )


def _decay_groups(parameters: Named, weight_decay: float, everything: bool) -> list[dict]:
    """Weight decay for matrices only, not for biases, norms and scales; the paper decays everything."""
    decayed = [p for _, p in parameters if everything or p.ndim >= 2]
    spared = [p for _, p in parameters if not everything and p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
