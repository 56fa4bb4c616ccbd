"""Diagnostics of contrastive training: record of steps, statistics of embeddings, warnings."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mama.losses.matching import moved
from mama.training.objective import Encoded

COLLAPSED_RANK = 1.2
CHANCE = 0.98  # share of ln B; above it, predictions are no better than guessing
GUESSING_AFTER = 0.5  # of the planned steps
ENOUGH_STEPS = 200  # with fewer, a healthy model may still be guessing


@dataclass(frozen=True)
class Health:
    """Diagnostics of one step.

    `loss_over_chance`: image-text loss divided by that of guessing, 2 ln B. `recall_at_1`: share of
    images whose nearest report in the batch is their own. `effective_rank`: exp of the entropy of
    the image embeddings' singular values (Roy & Vetterli 2007). `modality_gap`: distance between
    the mean image and the mean text on the unit sphere (Liang et al. 2022). `logit_scale`: factor
    of the cosines. `tissue_patches`: mean number of patches per image.
    """

    loss_over_chance: float
    recall_at_1: float
    effective_rank: float
    modality_gap: float
    logit_scale: float
    tissue_patches: float

    def figures(self) -> dict[str, float]:
        """Return the values by name, without the loss if its term is off."""
        return {name: value for name, value in asdict(self).items() if not math.isnan(value)}

    def warnings(self, progress: float, steps: int) -> list[str]:
        """Return warnings for people, given the fraction of planned steps done and their number."""
        found = []
        if self.effective_rank < COLLAPSED_RANK:
            found.append(
                f"image embeddings have collapsed (effective rank {self.effective_rank:.2f}): "
                "lower optimiser.lr"
            )
        late = progress > GUESSING_AFTER and steps >= ENOUGH_STEPS
        if late and self.loss_over_chance > CHANCE:
            found.append("images and reports are matched no better than chance: check the data")
        return found


@dataclass
class TrainingRecord:
    """Record of a number of training steps.

    Attributes:
        done: global step count at the end.
        steps: steps taken.
        skipped: steps not applied.
        in_a_row: current streak of skipped steps.
        not_finite: number of skipped steps per non-finite term.
        seconds: training time.
        sums: values of each term over the steps.
        truncated: reports truncated at `max_tokens`.
        blank: images without tissue.
        lost: private groups with an empty slot.
        flat: steps without contrast, in which no update was made.
        chunk: the caching chunk, if it was lowered to fit the device's memory.
        diagnose: computes the diagnostics of the last step.
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
    diagnose: Callable[[], Health | None] = lambda: None

    def __post_init__(self) -> None:
        self.not_finite = Counter(self.not_finite)  # a dict if it comes from JSON

    @property
    def health(self) -> Health | None:
        """Diagnostics of the last step, computed at each read."""
        return self.diagnose()

    @property
    def taken(self) -> int:
        """Number of steps taken or skipped."""
        return self.steps + self.skipped

    def counted(self) -> dict[str, Any]:
        """Return all but the health as JSON; `TrainingRecord(**counted)` continues the record."""
        return {name: value for name, value in vars(self).items() if name != "diagnose"}

    def means(self) -> dict[str, float]:
        """Return the mean of each term over the steps in which it was active."""
        return {name: sum(values) / len(values) for name, values in self.sums.items()}

    def non_finite_terms(self) -> str:
        """Return the non-finite terms and their numbers of steps, the most frequent first."""
        return ", ".join(f"{name} ({count})" for name, count in self.not_finite.most_common())

    def remarks(self) -> list[str]:
        """Return remarks on the data, for the site's log."""
        counts = {
            "reports were truncated at text.max_tokens": self.truncated,
            "images without tissue were encoded whole": self.blank,
            "groups had an empty or unreadable slot and contributed nothing": self.lost,
        }
        return [f"{count} {remark}" for remark, count in counts.items() if count]

    def warnings(self, progress: float) -> list[str]:
        """Return warnings for the site's staff, given the fraction of the planned steps done."""
        health = self.health
        found = health.warnings(progress, self.done) if health else []
        if self.skipped:
            found.append(f"{self.skipped} non-finite steps were skipped: {self.non_finite_terms()}")
        if self.flat:
            found.append(
                f"{self.flat} of {self.steps} steps had only one patient or one report, "
                "and trained nothing"
            )
        if self.chunk is not None:
            found.append(f"memory was short: compute.chunk was lowered to {self.chunk}")
        return found


@torch.no_grad()
def health(encoded: Encoded, logit_scale: Tensor, image_text_loss: float) -> Health | None:
    """Return diagnostics of one batch; None if fewer than two reports give no contrast."""
    rows = encoded.described.nonzero().squeeze(1)
    if len(rows) < 2:
        return None
    report = encoded.report[rows]
    rows = moved(rows, encoded.first)
    images = F.normalize(encoded.first[rows].float(), dim=-1)
    texts = F.normalize(encoded.text[rows].float(), dim=-1)
    nearest = (images @ texts.T).argmax(1).cpu()
    return Health(
        loss_over_chance=image_text_loss / (2 * math.log(len(rows))),
        recall_at_1=float((report[nearest] == report).float().mean()),
        effective_rank=effective_rank(images),
        modality_gap=float((images.mean(0) - texts.mean(0)).norm()),
        logit_scale=float(logit_scale.detach().exp()),
        tissue_patches=float(encoded.patch_counts.float().mean()),
    )


def effective_rank(vectors: Tensor) -> float:
    """Return exp(entropy of the normalised singular values) of (N, C) vectors, 1 to min(N, C)."""
    values = torch.linalg.svdvals(vectors)
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))
