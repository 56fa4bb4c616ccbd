"""The slots of a site's patients. Their number is public; who sits in them is not."""

import math
import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mama.errors import IntegrityError, PrivacyError
from mama.sealed import read_sealed, write_sealed


@dataclass(frozen=True)
class PatientSlotRoster:
    """One slot a patient, a pseudonym or None where it is empty.

    The bound speaks of one slot's patient being there or not. So a slot's patient never changes within a run, and a
    group with an empty slot contributes nothing at all: if it went on with one member less, all its other
    gradients would change with it, and the clipped sum by up to twice the clipping norm.
    """

    slots: tuple[str | None, ...] = ()

    def refilled(self, patients: Collection[str], size: int) -> "PatientSlotRoster":
        """The next run's roster: `size` slots, those whose patient has left given to patients who wait.

        Who gets a slot is drawn by the operating system.
        """
        seated = [p if p in patients else None for p in self.slots[:size]]
        seated += [None] * (size - len(seated))
        waiting = sorted(set(patients) - set(seated))
        random.SystemRandom().shuffle(waiting)
        return PatientSlotRoster(tuple(p if p or not waiting else waiting.pop() for p in seated))

    def lost_share(self, group_size: int) -> float:
        """Expected share of groups that hold an empty slot and so contribute nothing."""
        filled = sum(patient is not None for patient in self.slots)
        whole = math.comb(filled, group_size) / math.comb(len(self.slots), group_size)
        return 1 - whole

    def save(self, path: Path) -> None:
        """Keep the roster at the site."""
        write_sealed(path, {"slots": self.slots})

    @classmethod
    def load(cls, path: Path) -> "PatientSlotRoster":
        """The roster that `save` kept, without slots where there is none yet.

        Raises:
            PrivacyError: the file is damaged.
        """
        try:
            found = read_sealed(path)
            return cls() if found is None else cls(tuple(found["slots"]))
        except (IntegrityError, KeyError, TypeError):
            raise PrivacyError(
                "the roster of patients' slots is damaged",
                where=str(path),
                fix="Restore it; a new roster would mix runs",
            ) from None
