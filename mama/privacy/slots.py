"""Patient slots of a site: their number is public, their patients are not."""

import math
import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mama.errors import IntegrityError, PrivacyError
from mama.system.sealed import read_sealed, write_sealed


@dataclass(frozen=True)
class PatientSlots:
    """One slot per patient: a pseudonym, or None if the slot is empty.

    The privacy bound is about one slot being filled or empty. A slot's patient therefore never
    changes within a run, and a group with an empty slot contributes nothing at all: a group that
    continued with one member less would change all its other gradients, and the clipped sum by up
    to twice the clipping norm.
    """

    slots: tuple[str | None, ...] = ()

    def refilled(self, patients: Collection[str], size: int) -> "PatientSlots":
        """Return the next run's `size` slots, with empty ones given to patients without a slot.

        The patients are drawn with the operating system's entropy.
        """
        kept = [p if p in patients else None for p in self.slots[:size]]
        kept += [None] * (size - len(kept))
        waiting = sorted(set(patients) - set(kept))
        random.SystemRandom().shuffle(waiting)
        return PatientSlots(tuple(p if p or not waiting else waiting.pop() for p in kept))

    def lost_share(self, group_size: int) -> float:
        """Return the expected share of groups with an empty slot, which contribute nothing."""
        filled = sum(patient is not None for patient in self.slots)
        full = math.comb(filled, group_size) / math.comb(len(self.slots), group_size)
        return 1 - full

    def save(self, path: Path) -> None:
        """Write the slots to a sealed file."""
        write_sealed(path, {"slots": self.slots})

    @classmethod
    def load(cls, path: Path) -> "PatientSlots":
        """Read the slots that `save` wrote; without a file there are none.

        Raises:
            PrivacyError: the file is damaged.
        """
        try:
            content = read_sealed(path)
            return cls() if content is None else cls(tuple(content["slots"]))
        except (IntegrityError, KeyError, TypeError):
            raise PrivacyError(
                "the file of patient slots is damaged",
                where=str(path),
                fix="Restore it from the backup; slots must not change within a run",
            ) from None
