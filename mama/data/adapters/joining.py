"""Join of report rows to studies; a row that fits several studies is given to none."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mama.config.ingest import IdentityConfig
from mama.data.adapters.notes import Note

SCIENTIFIC = re.compile(r"\d([.,]\d*)?[eE]\+?\d+")


@dataclass(frozen=True)
class Exam:
    """One study and the keys by which a row can name it; `place` is a path within the source.

    `day` is YYYYMMDD, or empty.
    """

    study: str = field(repr=False)
    accessions: frozenset[str] = field(default=frozenset(), repr=False)
    patient: str = field(default="", repr=False)
    day: str = field(default="", repr=False)
    place: str = ""


class Keys(NamedTuple):
    """Keys of one row; empty where unknown. `study` may hold an accession number."""

    study: str = ""
    accession: str = ""
    patient: str = ""
    day: str = ""


def _exact(key: str) -> str:
    return key


def _without_zeros(key: str) -> str:
    return key.lstrip("0") or "0"


def _lower(key: str) -> str:
    return key.lower()


class Joiner:
    """Finds the study of a row, and remembers why others were not found.

    Args:
        exams: all studies.
        identity: rules for patients' numbers, which hold for the table too.
    """

    def __init__(self, exams: list[Exam], identity: IdentityConfig):
        self.identity = identity
        self._exact = _Index(exams, self.patient, _exact)
        self._near = {
            "report-key-zeros": _Index(exams, self.patient, _without_zeros),
            "report-key-case": _Index(exams, self.patient, _lower),
        }
        self._notes: list[Note] = []
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def patient(self, number: str) -> str:
        """Return a patient's number as the identity rules compare it."""
        if self.identity.strip_suffix:
            number = number.split("^")[0]
        return _without_zeros(number) if self.identity.strip_zeros else number

    def find(self, keys: Keys, place: str) -> str | None:
        """Return the study of a row; None, with a remark, if there is none or not only one."""
        found = self._exact.find(keys)
        if found is not None and len(found) == 1:
            return next(iter(found))
        if found is not None:
            self._notes.append(Note("report-key-ambiguous", place))
            return None
        self._notes.append(Note("report-without-study", place))
        if any(SCIENTIFIC.fullmatch(key) for key in keys[:3]):
            self._count("report-key-scientific", place)
        for code, index in self._near.items():
            if index.find(keys):
                self._count(code, place)
        return None

    def notes(self, table: str) -> list[Note]:
        """Return the remarks on all rows, with counts of keys that a spreadsheet changed."""
        counted = []
        for code, count in self._counts.items():
            rows = "1 row" if count == 1 else f"{count} rows"
            counted.append(Note(code, f"{table}, {rows} from {self._first[code]}"))
        return [*self._notes, *counted]

    def _count(self, code: str, place: str) -> None:
        self._counts[code] += 1
        self._first.setdefault(code, place.split(" ", 1)[-1])


class _Index:
    """Studies by each of their keys, compared in one way."""

    def __init__(
        self, exams: Iterable[Exam], patient: Callable[[str], str], compare: Callable[[str], str]
    ):
        self.patient, self.compare = patient, compare
        self.studies: dict[str, set[str]] = defaultdict(set)
        self.accessions: dict[str, set[str]] = defaultdict(set)
        self.visits: dict[tuple[str, str], set[str]] = defaultdict(set)
        for exam in exams:
            self.studies[compare(exam.study)].add(exam.study)
            for accession in exam.accessions:
                self.accessions[compare(accession)].add(exam.study)
            if exam.patient and exam.day:
                self.visits[compare(patient(exam.patient)), exam.day].add(exam.study)

    def find(self, keys: Keys) -> set[str] | None:
        """Return the studies that all matching keys agree on; None if no key matches."""
        sets = []
        if keys.study:
            study = self.compare(keys.study)
            sets.append(self.studies.get(study) or self.accessions.get(study))
        if keys.accession:
            sets.append(self.accessions.get(self.compare(keys.accession)))
        if keys.patient and keys.day:
            sets.append(self.visits.get((self.compare(self.patient(keys.patient)), keys.day)))
        matching = [found for found in sets if found]
        return set.intersection(*matching) if matching else None
