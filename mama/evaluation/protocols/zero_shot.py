"""Zero-shot classification: an image gets the class with the most similar prompts."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from mama.config import Experiment
from mama.data.studies import Image, Study
from mama.errors import ConfigError
from mama.evaluation.features import Features
from mama.evaluation.predictions import Predictions, mean_over, units_of
from mama.exchange.metrics import LABELS, Label
from mama.model import MaMA


@torch.no_grad()
def class_embeddings(
    model: MaMA,
    prompts: dict[str, list[str]],
    device: torch.device,
    before: Sequence[str] = (),
) -> torch.Tensor:
    """Return (K, E) unit vectors: per class the mean of its prompts' normalised embeddings.

    Args:
        model: the model.
        prompts: sentences by class.
        device: the model's device.
        before: sentences that precede each prompt.

    Raises:
        ConfigError: `before` and a prompt together exceed the text tower's tokens.
    """
    model.eval()
    rows = []
    for sentences in prompts.values():
        tokens = model.text.tokenise([[*before, sentence] for sentence in sentences])
        if before and tokens.truncated:
            raise ConfigError(
                "an image's metadata and a class prompt exceed text.max_tokens",
                where="evaluation.metadata",
                fix="Raise text.max_tokens or shorten the prompts",
            )
        texts = model.encode_texts(tokens.to(device), local=False).embedding
        texts = F.normalize(texts, dim=-1)
        rows.append(F.normalize(texts.mean(0), dim=0))
    return torch.stack(rows).float().cpu()


def metadata(image: Image) -> tuple[str, ...]:
    """Return laterality and view as one sentence, such as "Left breast, CC view.", or nothing."""
    side = {"L": "Left breast", "R": "Right breast", None: None}[image.laterality]
    parts = [part for part in (side, image.view and f"{image.view} view") if part]
    return (f"{', '.join(parts)}.",) if parts else ()


def zero_shot(
    model: MaMA,
    experiment: Experiment,
    studies: Sequence[Study],
    features: Features,
    device: torch.device,
) -> dict[Label, Predictions]:
    """Return predictions for every label: class probabilities averaged over the unit's images.

    With `evaluation.metadata`, the image's `metadata` sentence precedes the class prompts (MaMA,
    section 3: its training reports contain such a sentence too). Each image is classified
    independently: nothing depends on the order or number of studies.
    """
    prefixes = [
        metadata(image) if experiment.evaluation.metadata else ()
        for study in studies
        for image in study.images
    ]
    scale = float(model.logit_scale.detach().exp())
    answers: dict[Label, Predictions] = {}
    for label in LABELS:
        prompts: dict[str, list[str]] = getattr(experiment.evaluation, label)
        ordered = {name: prompts[name] for name in sorted(prompts)}
        cosines = torch.zeros(len(prefixes), len(ordered))
        for prefix in sorted(set(prefixes)):  # at most lateralities times views
            rows = torch.tensor([other == prefix for other in prefixes])
            classes = class_embeddings(model, ordered, device, prefix)
            cosines[rows] = features.embeddings[rows] @ classes.T
        per_image = torch.softmax(scale * cosines.double(), dim=-1).numpy()
        units = units_of(studies, label)
        means = mean_over(per_image, units) if units else np.zeros((0, len(ordered)))
        answers[label] = Predictions(tuple(ordered), means, units)
    return answers
