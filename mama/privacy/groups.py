"""Batches of private groups: one study pair per slot, or no batch at all."""

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.data.studies import Image, Study
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
        described = {
            studies[0].patient: [study for study in studies if described_images(study)]
            for studies in self.patients
        }
        self.slots = [
            described.get(patient, []) if patient else [] for patient in patient_slots.slots
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


def described_images(study: Study) -> list[Image]:
    """Return a study's images whose breast the report describes."""
    return [image for image in study.images if study.texts(image.laterality)]
