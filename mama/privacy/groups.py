"""Batches of private groups: one study pair per slot, or no batch at all."""

import numpy as np

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.data.studies import Image, Studies, Study
from mama.errors import DataError
from mama.privacy.slots import PatientSlots
from mama.system.seeds import numpy_generator


class SlotPairs(StudyPairs):
    """Study pairs of patient slots.

    A slot's pair depends only on its patient, the slot and the step, so removing one patient
    changes nothing but the group that contains it.

    Args:
        dataset: the site's ingested dataset.
        experiment: image size, augmentation, batch size and seed.
        stream: name of the site's random stream.
        patient_slots: the patients by slot.
    """

    def __init__(
        self, dataset: Dataset, experiment: Experiment, stream: str, patient_slots: PatientSlots
    ):
        super().__init__(dataset, experiment, stream)
        nobody = dataset.studies("train")[:0]
        numbers = {name: number for number, name in enumerate(self.patients.names)}
        self.slots = [
            _described(self.patients[numbers[patient]]) if patient in numbers else nobody
            for patient in patient_slots.slots
        ]

    def group(self, step: int, slots: list[int]) -> Batch | None:
        """Return the batch of these slots; None if one of them is empty or unreadable."""
        if not all(self.slots[slot] for slot in slots):
            return None
        seed = self.experiment.seed
        try:
            return self._batch_of(
                (self.slots[slot], numpy_generator(seed, self.stream, "slot", step, slot))
                for slot in slots
            )
        except DataError:
            return None

    def _first_candidates(self, study: Study) -> list[Image]:
        """Return only described images; an image without text would void its group."""
        return described_images(study)


def _described(studies: Studies) -> Studies:
    return studies[np.array([bool(described_images(study)) for study in studies], bool)]


def described_images(study: Study) -> list[Image]:
    """Return a study's images whose breast the report describes."""
    return [image for image in study.images if study.texts(image.laterality)]
