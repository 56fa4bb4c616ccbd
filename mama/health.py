"""Is contrastive training alive? A few figures of one step's embeddings, and when they mean collapse."""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mama.objective import Encoded

COLLAPSED_RANK = 1.2
CHANCE = 0.98  # of ln B: no better than guessing
GUESSING_AFTER = 0.5  # of the planned steps
ENOUGH_STEPS = 200  # before them a model may well be guessing still


@dataclass(frozen=True)
class Health:
    """Figures of one step.

    `loss_over_chance`: image-text loss over that of guessing, 2 ln B. `recall_at_1`: share of images whose report is
    the nearest of the batch. `effective_rank`: exp of the entropy of the image embeddings' singular values (Roy &
    Vetterli 2007). `modality_gap`: distance between the mean image and the mean text on the unit sphere (Liang et al.
    2022). `logit_scale`: what cosines are multiplied by. `tissue_patches`: mean number of patches an image.
    """

    loss_over_chance: float
    recall_at_1: float
    effective_rank: float
    modality_gap: float
    logit_scale: float
    tissue_patches: float

    def figures(self) -> dict[str, float]:
        """By name; the loss only where its term is on."""
        return {name: value for name, value in asdict(self).items() if not math.isnan(value)}

    def warnings(self, progress: float, steps: int) -> list[str]:
        """What a person should look at, given the fraction of the planned steps done and their number."""
        found = []
        if self.effective_rank < COLLAPSED_RANK:
            found.append(
                f"image embeddings have collapsed (effective rank {self.effective_rank:.2f}): "
                "lower optimiser.lr"
            )
        late = progress > GUESSING_AFTER and steps >= ENOUGH_STEPS
        if late and self.loss_over_chance > CHANCE:
            found.append("images and reports are matched no better than by chance: check the data")
        return found


@torch.no_grad()
def health(encoded: Encoded, logit_scale: Tensor, image_text_loss: float) -> Health | None:
    """The figures of one batch's embeddings; None with fewer than two reports, where nothing can be confused."""
    rows = encoded.told.nonzero().squeeze(1)
    if len(rows) < 2:
        return None
    images = F.normalize(encoded.first[rows].float(), dim=-1)
    texts = F.normalize(encoded.text[rows].float(), dim=-1)
    report = encoded.report[rows]
    nearest = (images @ texts.T).argmax(1)
    return Health(
        loss_over_chance=image_text_loss / (2 * math.log(len(rows))),
        recall_at_1=float((report[nearest] == report).float().mean()),
        effective_rank=effective_rank(images),
        modality_gap=float((images.mean(0) - texts.mean(0)).norm()),
        logit_scale=float(logit_scale.detach().exp()),
        tissue_patches=float(encoded.patch_counts.float().mean()),
    )


def effective_rank(vectors: Tensor) -> float:
    """exp(entropy of the normalised singular values) of (N, C) vectors, between 1 and min(N, C)."""
    values = torch.linalg.svdvals(vectors)
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))
