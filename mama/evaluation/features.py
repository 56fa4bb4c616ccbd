"""Image features of a dataset, computed once for zero-shot classification and linear probes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F

from mama.data.augment import normalise, on_canvas
from mama.data.manifest import Dataset
from mama.data.studies import Study
from mama.evaluation.predictions import require_numbers
from mama.model import MaMA

CHUNK = 64


@dataclass(frozen=True)
class Features:
    """`embeddings` (images, E), unit vectors, and `pooled` (images, D), float32, in study order."""

    embeddings: torch.Tensor
    pooled: np.ndarray


@torch.no_grad()
def image_features(
    model: MaMA, dataset: Dataset, studies: Sequence[Study], device: torch.device
) -> Features:
    """Encode every image of `studies`, without augmentation.

    Raises:
        DataError: an image is missing or damaged, or cached at too small a size.
        TrainingError: the model's features are not finite.
    """
    canvas = model.image.config
    dataset.require(canvas.size)
    model.eval()
    images = (image for study in studies for image in study.images)
    embeddings, pooled = [], []
    while chunk := list(islice(images, CHUNK)):
        canvases = [on_canvas(dataset.pixels(image), canvas.size, canvas.layout) for image in chunk]
        features = model.image(normalise(canvases).to(device)).pooled
        pooled.append(features.float().cpu())
        embeddings.append(F.normalize(model.image_projection(features), dim=-1).float().cpu())
    all_pooled = torch.cat(pooled).numpy()
    require_numbers(all_pooled)
    return Features(torch.cat(embeddings), all_pooled)
