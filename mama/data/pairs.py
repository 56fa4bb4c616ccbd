"""Batches of study pairs: two views of one breast and the sentences that speak of it."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mama.config import Experiment
from mama.data.augment import augment, normalise, on_canvas
from mama.data.manifest import Dataset
from mama.data.sentences import for_side
from mama.data.studies import Image, Study
from mama.errors import EmptyReportsError, NoStudiesError
from mama.seeds import numpy_generator

# Which of a batch's rows to make, given their number.
Share = Callable[[int], slice]


def whole(rows: int) -> slice:
    """All rows of a batch."""
    return slice(rows)


@dataclass(frozen=True)
class Batch:
    """N studies of N patients.

    `first` and `second` (N, 1, H, W) float32 in [-1, 1], background -1; `reports` are N lists of sentences about the
    first view's breast, and `second_told` (N,) bool says whether they speak of the second view's too.
    """

    first: Tensor
    second: Tensor
    reports: list[list[str]]
    second_told: Tensor

    def __len__(self) -> int:
        return len(self.reports)

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(
            self.first[rows], self.second[rows], self.reports[rows], self.second_told[rows]
        )

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(
            self.first.to(device),
            self.second.to(device),
            self.reports,
            self.second_told.to(device),
        )


class StudyPairs:
    """The training batches of one site, each a function of its step alone, so that a run resumes anywhere.

    Patients are taken in a new random order each pass; each gives one of its studies, one image of it and, with
    probability `second_view_probability`, another view of the same breast (or any other image of the study), else a
    second augmentation of the same image. A batch is never larger than the number of patients.

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

    @property
    def studies(self) -> int:
        """Number of training studies; the weight of this site's updates."""
        return sum(map(len, self.patients))

    def patients_in(self, steps: range) -> int:
        """Number of distinct patients in the batches of these optimiser steps."""
        each = self.experiment.optimiser.accumulate
        batches = range(steps.start * each, steps.stop * each)
        if len(batches) * self.batch_size >= 2 * len(self.patients):
            return len(self.patients) // self.batch_size * self.batch_size  # a whole pass at least
        seen = {id(patient) for step in batches for patient in self._patients_of(step)}
        return len(seen)

    def batch(self, step: int, share: Share = whole) -> Batch:
        """The batch of a global step, or this process's share of it."""
        patients = self._patients_of(step)
        # A generator a row: several processes make one batch of their shares.
        return self._batch_of(
            (patients[row], numpy_generator(self.experiment.seed, self.stream, "batch", step, row))
            for row in range(len(patients))[share(len(patients))]
        )

    def _batch_of(self, rows: Iterable[tuple[list[Study], np.random.Generator]]) -> Batch:
        """A batch with a row for each patient's studies, chosen and augmented by the generator beside them."""
        first, second, reports, told = [], [], [], []
        for studies, random in rows:
            pair = self._pair(studies, random)
            first.append(self._view(pair[0], random))
            second.append(self._view(pair[1], random))
            reports.append(pair[2])
            told.append(pair[3])
        return Batch(normalise(first), normalise(second), reports, torch.tensor(told))

    def batches(
        self, steps: range, *, share: Share = whole, ahead: int = 0
    ) -> Generator[Batch, None, None]:
        """The batches of `steps` in order; threads make up to `ahead` of them before they are asked for."""
        if not ahead:
            for step in steps:
                yield self.batch(step, share)
            return
        with ThreadPoolExecutor(ahead, thread_name_prefix="batches") as pool:
            rest = iter(steps)
            waiting = [pool.submit(self.batch, step, share) for step in islice(rest, ahead)]
            try:
                while waiting:
                    batch = waiting.pop(0).result()
                    waiting += [pool.submit(self.batch, step, share) for step in islice(rest, 1)]
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()

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
    ) -> tuple[Image, Image, list[str], bool]:
        study = studies[random.integers(len(studies))]
        firsts = self._firsts(study)
        first = firsts[int(random.integers(len(firsts)))]
        config = self.experiment.augment
        anything = config.second_view == "any_in_study"
        others = [
            image
            for image in study.images
            if image != first and (anything or _same_breast(image, first))
        ]
        second = first
        if others and random.random() < config.second_view_probability:
            second = others[random.integers(len(others))]
        # Of an image whose side is unknown the whole report speaks.
        told = first.laterality in (None, second.laterality)
        told = told or self.experiment.loss.other_breast_text
        return first, second, self._sentences(study, first, random), told

    def _firsts(self, study: Study) -> Sequence[Image]:
        """The images that a pair may begin with."""
        return study.images

    def _sentences(self, study: Study, image: Image, random: np.random.Generator) -> list[str]:
        """What the report says of this image's breast: all, or some of it in its order."""
        sentences = list(for_side(study.sentences, image.laterality))
        most = self.experiment.augment.max_sentences
        if most is None or len(sentences) <= most:
            return sentences
        return [sentences[i] for i in sorted(random.permutation(len(sentences))[:most])]

    def _view(self, image: Image, random: np.random.Generator) -> np.ndarray:
        config = self.experiment
        canvas = on_canvas(self.dataset.pixels(image), config.image.size, config.image.layout)
        return augment(canvas, config.augment, random)


def _same_breast(first: Image, second: Image) -> bool:
    """Whether two images of a study are known to show one breast."""
    return first.laterality is not None and first.laterality == second.laterality
