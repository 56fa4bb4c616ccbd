"""A private group's batch: one study pair of each slot's patient, or nothing at all."""

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.data.sentences import for_side
from mama.data.studies import Image, Study
from mama.errors import DataError
from mama.privacy.roster import PatientSlotRoster
from mama.seeds import numpy_generator


class SlotPairs(StudyPairs):
    """The study pairs of a roster of slots.

    What a slot gives depends on its own patient, on the slot and on the step alone, so that taking one patient away
    changes nothing but the group it is in.
    """

    def __init__(
        self, dataset: Dataset, experiment: Experiment, stream: str, roster: PatientSlotRoster
    ):
        super().__init__(dataset, experiment, stream)
        told = {
            studies[0].patient: [study for study in studies if told_images(study)]
            for studies in self.patients
        }
        self.slots = [told.get(patient, []) if patient else [] for patient in roster.slots]

    def group(self, step: int, slots: list[int]) -> Batch | None:
        """The batch of these slots; None if any of them is empty or unreadable."""
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

    def _firsts(self, study: Study) -> list[Image]:
        """Only those with words: a group that had drawn another would be silent."""
        return told_images(study)


def told_images(study: Study) -> list[Image]:
    """A study's images of whose breast the report says anything."""
    return [image for image in study.images if for_side(study.sentences, image.laterality)]
