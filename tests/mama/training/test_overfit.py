"""The model overfits 32 studies: every image finds its report and every report its image."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mama.config import Experiment
from mama.data.augment import normalise, on_canvas
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.data.pairs import StudyPairs
from mama.data.picture import write_picture
from mama.data.studies import Image, Labels, Sentence, Study
from mama.model import MaMA, build_model
from mama.training.trainer import Trainer

WORDS = ("breast", "fatty", "dense", "mass", "suspicious", "left", "no", "the", "is", "in", "a")
STUDIES = 32
STEPS = 200


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Each with a report of its own, and two views of one breast with a pattern of its own."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "images").mkdir()
    made = []
    for number in range(STUDIES):
        random = np.random.default_rng(number)
        report = tuple(" ".join(random.choice(WORDS, 4, replace=False)) for _ in range(3))
        pattern = random.integers(20, 255, (4, 3))
        images = []
        for view in ("CC", "MLO"):
            pixels = np.kron(pattern, np.ones((8, 8))) + random.integers(-15, 16, (32, 24))
            image = Image(
                id=f"i{number}{view}",
                laterality="L",
                view=view,
                vendor=None,
                height=32,
                width=24,
            )
            write_picture(
                folder / "images" / f"{image.id}.npy", np.clip(pixels, 1, 255).astype(np.uint8)
            )
            images.append(image)
        made.append(
            Study(
                id=f"s{number}",
                patient=f"p{number}",
                split="train",
                images=tuple(images),
                sentences=tuple(Sentence(text=text, side="both", section=None) for text in report),
                labels=Labels(),
            )
        )
    write_manifest(
        folder, Manifest(adapter="test", key_check="", long_side=32, studies=tuple(made))
    )
    return Dataset(folder)


@torch.no_grad()
def retrieval(model: MaMA, dataset: Dataset, reports: Sequence[Sequence[str]]) -> list[float]:
    """R@1 of images among reports and the reverse; first views, without augmentation."""
    model.eval()
    images = [dataset.pixels(study.images[0]) for study in dataset.studies("train")]
    views = normalise([on_canvas(pixels, (32, 32), "native") for pixels in images])
    similarity = model.similarity(views, reports)
    right = torch.arange(len(views))
    return [float((similarity.argmax(dim) == right).float().mean()) for dim in (1, 0)]


def test_every_study_is_learnt_by_heart(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], studies: Dataset
) -> None:
    experiment = make_experiment(
        "optimiser={batch_size: 32, lr: 0.01}",
        f"federation={{rounds: 1, local_steps: {STEPS}}}",
        "image.tower=vit_tiny_patch16_224",
        "image.options={patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}",
        "text.max_tokens=64",
        "text.sentences=mean",
        "loss.local.start=0",
        "text.lora={rank: 8, alpha: 16, dropout: 0, targets: [query, value]}",
        "heads={embedding: 32, view_hidden: 32, local_hidden: 32}",
        "augment={rotate_degrees: 0, shift: 0, min_scale: 1, max_scale: 1}",
    )
    model = build_model(experiment, base_models)
    reports = [study.texts() for study in studies.studies("train")]
    assert max(retrieval(model, studies, reports)) < 0.2
    pairs = StudyPairs(studies, experiment, "s")
    record = Trainer(model, pairs, experiment, torch.device("cpu")).train(0, STEPS)
    assert retrieval(model, studies, reports) == [1, 1]
    assert record.remarks() + record.warnings(1.0) == []
