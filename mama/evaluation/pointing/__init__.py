"""Pointing game (Zhang et al. 2018): how often heat maps of a report's sentences hit its lesions.

The datasets' boxes of lesions are the truth; training never sees them.
"""

from collections.abc import Sequence
from typing import Any

import torch

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.studies import Study
from mama.evaluation.pointing.score import Score, scores
from mama.evaluation.pointing.summary import summary
from mama.model import MaMA

__all__ = ["Score", "pointing", "scores", "summary"]


def pointing(
    model: MaMA,
    experiment: Experiment,
    dataset: Dataset,
    studies: Sequence[Study],
    device: torch.device,
) -> dict[str, Any]:
    """Return the figures of all images of `studies` with boxes, ready for JSON; see `summary`.

    Raises:
        DataError: a box lies outside its picture, or an image is missing, damaged or too small.
        TrainingError: the model's heat maps are not finite.
    """
    return summary(list(scores(model, experiment, dataset, studies, device)))
