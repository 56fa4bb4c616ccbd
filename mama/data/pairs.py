"""Batches of study pairs: two views of one breast and the report sentences about it."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mama.config import Experiment
from mama.data.augment import augment, normalise, on_canvas
from mama.data.manifest import Dataset
from mama.data.studies import Image, Sentence, Studies, Study
from mama.errors import EmptyReportsError, NoStudiesError
from mama.system.seeds import numpy_generator

# Selects this process's rows of a batch, given the number of rows.
Share = Callable[[int], slice]


def whole(rows: int) -> slice:
    """Return the slice of all rows of a batch."""
    return slice(rows)


@dataclass(frozen=True)
class Batch:
    """N studies of N patients.

    `first` and `second` are (N, 1, H, W) float32 in [-1, 1], background -1. `reports` holds N lists
    of sentences about the first view's breast. `second_described` (N,) bool, on the CPU, marks rows
    whose sentences also describe the second view's breast. `kept` are the patches that the image
    tower encodes of both views, (N, P) bool on the CPU, and `blank` the number of images without
    tissue, if they were computed beforehand. `sided` marks the sentences of each report whose
    breast is known, which the local term uses; without it all are.
    """

    first: Tensor
    second: Tensor
    reports: list[list[str]]
    second_described: Tensor
    kept: tuple[Tensor, Tensor] | None = None
    blank: int = 0
    sided: list[list[bool]] | None = None

    def __len__(self) -> int:
        return len(self.reports)

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(
            self.first[rows],
            self.second[rows],
            self.reports[rows],
            self.second_described[rows],
            self.kept and (self.kept[0][rows], self.kept[1][rows]),
            sided=self.sided and self.sided[rows],
        )

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its images on another device, which is not waited for."""
        first, second = (view.to(device, non_blocking=True) for view in (self.first, self.second))
        return replace(self, first=first, second=second)

    def pinned(self) -> "Batch":
        """Return the batch with its images in page-locked memory, for fast copies to a GPU."""
        return replace(self, first=self.first.pin_memory(), second=self.second.pin_memory())


class StudyPairs:
    """Training batches of one site, each a function of its step alone, so that runs can resume.

    Each pass takes the patients in a new random order. A patient contributes one study and one
    image of it. The second view is, with probability `second_view_probability`, another view of the
    same breast (or any other image of the study), else a second augmentation of the same image. A
    batch is never larger than the number of patients.

    `studies` is the number of training studies, the weight of this site's updates.

    Args:
        dataset: the site's ingested dataset.
        experiment: image size, augmentation, batch size and seed.
        stream: name of the site's random stream, so that sites with one seed draw differently.

    Raises:
        DataError: the images are cached at a smaller size than the experiment needs.
        NoStudiesError: there is no study to train on.
        EmptyReportsError: no study has a report.
    """

    def __init__(self, dataset: Dataset, experiment: Experiment, stream: str):
        dataset.require(experiment.image.size)
        self.dataset, self.experiment, self.stream = dataset, experiment, stream
        train = dataset.studies("train")
        if not train:
            raise NoStudiesError(
                "no studies to train on", where=str(dataset.folder), fix="Check the ingest's source"
            )
        if not any(study.sentences for study in train):
            raise EmptyReportsError(
                "all reports are empty",
                where=str(dataset.folder),
                fix="Check the columns 'study' and 'report' of the report table",
            )
        self.studies, self.patients = len(train), train.by_patient()
        self.batch_size = min(experiment.optimiser.batch_size, len(self.patients))
        self._order = (-1, np.zeros(0, np.int64))

    def patients_in(self, steps: range) -> int:
        """Return the number of distinct patients in the batches of these optimiser steps."""
        each = self.experiment.optimiser.accumulate
        batches = range(steps.start * each, steps.stop * each)
        if len(batches) * self.batch_size >= 2 * len(self.patients):
            return len(self.patients) // self.batch_size * self.batch_size  # at least one full pass
        return len({number for step in batches for number in self._numbers_of(step).tolist()})

    def batch(self, step: int, share: Share = whole) -> Batch:
        """Return the batch of a global step, or this process's share of it."""
        patients = self._patients_of(step)
        # One generator per row, so that a row does not depend on the process that makes it.
        return self._batch_of(
            (patients[row], numpy_generator(self.experiment.seed, self.stream, "batch", step, row))
            for row in range(len(patients))[share(len(patients))]
        )

    def _batch_of(self, rows: Iterable[tuple[Studies, np.random.Generator]]) -> Batch:
        """Build a batch of one row per patient, each sampled with its own generator."""
        first, second, described = [], [], []
        reports: list[list[str]] = []
        sided: list[list[bool]] = []
        for studies, random in rows:
            pair = self._pair(studies, random)
            first.append(self._view(pair[0], random))
            second.append(self._view(pair[1], random))
            reports.append([sentence.text for sentence in pair[2]])
            sided.append([sentence.side is not None for sentence in pair[2]])
            described.append(pair[3])
        return Batch(
            normalise(first), normalise(second), reports, torch.tensor(described), sided=sided
        )

    def batches(
        self,
        steps: range,
        *,
        share: Share = whole,
        workers: int = 0,
        ready: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> Generator[Batch, None, None]:
        """Yield the batches of `steps` in order.

        Args:
            steps: global numbers of the batches.
            share: selects this process's rows of a batch.
            workers: threads that make a batch each ahead of its use; 0 makes them when needed.
            ready: applied to each batch where it is made.
        """

        def make(step: int) -> Batch:
            return ready(self.batch(step, share))

        if not workers:
            yield from map(make, steps)
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
            rest = iter(steps)
            waiting = [pool.submit(make, step) for step in islice(rest, workers)]
            try:
                while waiting:
                    batch = waiting.pop(0).result()
                    waiting += [pool.submit(make, step) for step in islice(rest, 1)]
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()

    def _patients_of(self, step: int) -> list[Studies]:
        return [self.patients[number] for number in self._numbers_of(step).tolist()]

    def _numbers_of(self, step: int) -> np.ndarray:
        """Return the numbers of the patients of a batch, (batch_size,) int64."""
        passes, place = divmod(step, len(self.patients) // self.batch_size)
        known, order = self._order  # of the last pass, as it costs the time of all patients
        if known != passes:
            random = numpy_generator(self.experiment.seed, self.stream, "order", passes)
            order = random.permutation(len(self.patients))
            self._order = (passes, order)
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def _pair(
        self, studies: Studies, random: np.random.Generator
    ) -> tuple[Image, Image, list[Sentence], bool]:
        study = studies[int(random.integers(len(studies)))]
        firsts = self._first_candidates(study)
        first = firsts[int(random.integers(len(firsts)))]
        config = self.experiment.augment
        any_image = config.second_view == "any_in_study"
        others = [
            image
            for image in study.images
            if image != first and (any_image or _same_breast(image, first))
        ]
        second = first
        if others and random.random() < config.second_view_probability:
            second = others[random.integers(len(others))]
        # If the first image's laterality is unknown, the sentences are the whole report.
        described = first.laterality in (None, second.laterality)
        described = described or self.experiment.loss.other_breast_text
        return first, second, self._sentences(study, first, random), described

    def _first_candidates(self, study: Study) -> Sequence[Image]:
        """Return the candidates for the first image of a pair."""
        return study.images

    def _sentences(self, study: Study, image: Image, random: np.random.Generator) -> list[Sentence]:
        """Return the sentences about the image's breast, sampled in order if there are too many."""
        sentences = list(study.about(image.laterality))
        most = self.experiment.augment.max_sentences
        if most is None or len(sentences) <= most:
            return sentences
        return [sentences[i] for i in sorted(random.permutation(len(sentences))[:most])]

    def _view(self, image: Image, random: np.random.Generator) -> np.ndarray:
        config = self.experiment
        canvas = on_canvas(self.dataset.pixels(image), config.image.size, config.image.layout)
        return augment(canvas, config.augment, random)


def _same_breast(first: Image, second: Image) -> bool:
    """Return whether two images of a study are known to show the same breast."""
    return first.laterality is not None and first.laterality == second.laterality
