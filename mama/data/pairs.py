"""Batches of study pairs: two views of one breast and the sentences that speak of it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from mama.config import AugmentConfig, Experiment
from mama.data.manifest import Dataset, Image, Study
from mama.data.sentences import for_side
from mama.errors import EmptyReportsError, NoStudiesError
from mama.seeds import derive, numpy_generator


@dataclass(frozen=True)
class Batch:
    """N studies of N patients: `first` and `second` (N, 1, H, W) float32 in [-1, 1], and N reports."""

    first: Tensor
    second: Tensor
    reports: list[list[str]]


class StudyPairs:
    """The training batches of one site, each a function of its step alone, so that a run resumes anywhere.

    Patients are taken in a new random order each pass; each gives one of its studies, one image of it and, with
    probability `second_view_probability`, another view of the same breast, else a second augmentation of the
    same image. A batch is never larger than the number of patients.

    Args:
        stream: names this site's random choices, so that sites with one seed draw differently.

    Raises:
        NoStudiesError: no study to train on.
        EmptyReportsError: no study with a report.
    """

    def __init__(self, dataset: Dataset, experiment: Experiment, stream: str):
        dataset.require(experiment.image.size)
        self.dataset, self.experiment, self.stream = dataset, experiment, stream
        by_patient: dict[str, list[Study]] = {}
        for study in dataset.studies("train"):
            by_patient.setdefault(study.patient, []).append(study)
        if not by_patient:
            raise NoStudiesError(
                "no studies to train on", where=str(dataset.folder), fix="Check what was ingested"
            )
        if not any(study.sentences for studies in by_patient.values() for study in studies):
            raise EmptyReportsError(
                "all reports are empty",
                where=str(dataset.folder),
                fix="Check the report table's study column and text column",
            )
        self.patients = [by_patient[patient] for patient in sorted(by_patient)]
        self.batch_size = min(experiment.optimiser.batch_size, len(self.patients))
        self._augment = augmentation(experiment.augment)

    @property
    def studies(self) -> int:
        """Number of training studies; the weight of this site's updates."""
        return sum(map(len, self.patients))

    def batch(self, step: int) -> Batch:
        """The batch of a global step."""
        seed = self.experiment.seed
        random = numpy_generator(seed, self.stream, "batch", step)
        pairs = [self._pair(studies, random) for studies in self._patients_of(step)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, self.stream, "augment", step))
            first = torch.stack([self._view(first) for first, _, _ in pairs])
            second = torch.stack([self._view(second) for _, second, _ in pairs])
        return Batch(normalise(first), normalise(second), [report for _, _, report in pairs])

    def _patients_of(self, step: int) -> list[list[Study]]:
        passes, place = divmod(step, len(self.patients) // self.batch_size)
        order = numpy_generator(self.experiment.seed, self.stream, "order", passes)
        chosen = order.permutation(len(self.patients))
        return [
            self.patients[i]
            for i in chosen[place * self.batch_size : (place + 1) * self.batch_size]
        ]

    def _pair(
        self, studies: list[Study], random: np.random.Generator
    ) -> tuple[Image, Image, list[str]]:
        study = studies[random.integers(len(studies))]
        first = study.images[random.integers(len(study.images))]
        others = [i for i in study.images if i.laterality == first.laterality and i != first]
        second = first
        if others and random.random() < self.experiment.augment.second_view_probability:
            second = others[random.integers(len(others))]
        return first, second, self._sentences(study, first, random)

    def _sentences(self, study: Study, image: Image, random: np.random.Generator) -> list[str]:
        """What the report says of this image's breast: all, or some of it in its order."""
        sentences = list(for_side(study.sentences, image.laterality))
        most = self.experiment.augment.max_sentences
        if most is None or len(sentences) <= most:
            return sentences
        return [sentences[i] for i in sorted(random.permutation(len(sentences))[:most])]

    def _view(self, image: Image) -> Tensor:
        return self._augment(on_canvas(self.dataset.pixels(image), self.experiment.image.size))


def augmentation(config: AugmentConfig) -> v2.Transform:
    """Random rotation, shift, scale, brightness and contrast of a (1, H, W) uint8 image."""
    steps: list[torch.nn.Module] = [
        v2.RandomAffine(
            config.rotate_degrees,
            translate=(config.shift, config.shift),
            scale=(config.min_scale, config.max_scale),
            interpolation=v2.InterpolationMode.BILINEAR,
        ),
        v2.ColorJitter(config.brightness, config.contrast),
    ]
    if config.blur_probability:
        steps.append(v2.RandomApply([v2.GaussianBlur(7, (0.1, 2.0))], config.blur_probability))
    return v2.Compose(steps)


def on_canvas(pixels: np.ndarray, size: tuple[int, int]) -> Tensor:
    """A cached breast on a canvas: aspect ratio kept, chest wall at the left edge, (1, H, W) uint8."""
    image = torch.from_numpy(pixels).unsqueeze(0)
    height, width = image.shape[1:]
    scale = min(size[0] / height, size[1] / width)
    fitted = [
        max(1, min(size[0], round(height * scale))),
        max(1, min(size[1], round(width * scale))),
    ]
    if fitted != [height, width]:
        image = v2.functional.resize(image, fitted, antialias=True)
    top = (size[0] - fitted[0]) // 2
    bottom, right = size[0] - fitted[0] - top, size[1] - fitted[1]
    return torch.nn.functional.pad(image, (0, right, top, bottom))


def normalise(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1.0
