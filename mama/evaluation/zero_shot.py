"""Zero-shot classification: an image takes the class whose prompts lie nearest."""

import numpy as np
import torch
import torch.nn.functional as F

from mama.config import Experiment
from mama.data.manifest import Study
from mama.evaluation.features import Features
from mama.evaluation.predictions import Predictions, mean_over, units_of
from mama.exchange.metrics import LABELS, Label
from mama.model import MaMA


@torch.no_grad()
def class_embeddings(
    model: MaMA, prompts: dict[str, list[str]], device: torch.device
) -> torch.Tensor:
    """(K, E) unit vectors: per class the mean of its prompts' normalised embeddings."""
    model.eval()
    rows = []
    for sentences in prompts.values():
        tokens = model.text.tokenise([[sentence] for sentence in sentences]).to(device)
        texts = F.normalize(model.encode_texts(tokens, local=False).embedding, dim=-1)
        rows.append(F.normalize(texts.mean(0), dim=0))
    return torch.stack(rows).float().cpu()


def zero_shot(
    model: MaMA,
    experiment: Experiment,
    studies: list[Study],
    features: Features,
    device: torch.device,
) -> dict[Label, Predictions]:
    """Predictions for every label: class probabilities averaged over the unit's images.

    Each image is answered alone: nothing depends on the order or the number of studies.
    """
    scale = float(model.logit_scale.detach().exp())
    answers: dict[Label, Predictions] = {}
    for label in LABELS:
        prompts: dict[str, list[str]] = getattr(experiment.evaluation, label)
        ordered = {name: prompts[name] for name in sorted(prompts)}
        similar = features.embeddings @ class_embeddings(model, ordered, device).T
        per_image = torch.softmax(scale * similar.double(), dim=-1).numpy()
        units = units_of(studies, label)
        means = mean_over(per_image, units) if units else np.zeros((0, len(ordered)))
        answers[label] = Predictions(tuple(ordered), means, units)
    return answers
