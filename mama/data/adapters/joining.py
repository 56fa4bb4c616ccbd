"""Join of report rows to studies; a row that fits several studies is given to none."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from mama.config.ingest import IdentityConfig
from mama.data.adapters.notes import Note

SCIENTIFIC = re.compile(r"\d([.,]\d*)?[eE]\+?\d+")
DAYS = 31  # between an exam and the signature of its report, which tables often give as the date


@dataclass(frozen=True)
class Exam:
    """One study and the keys by which a row can name it; `place` is a path within the source.

    `uids` are its StudyInstanceUIDs where `study` is another key; `day` is YYYYMMDD, or empty.
    """

    study: str = field(repr=False)
    accessions: frozenset[str] = field(default=frozenset(), repr=False)
    patient: str = field(default="", repr=False)
    day: str = field(default="", repr=False)
    place: str = ""
    uids: frozenset[str] = field(default=frozenset(), repr=False)


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


def _without_signs(key: str) -> str:
    """Return a key without what a spreadsheet added: ="1001", '1001, 1001.0."""
    bare = key.lstrip("='\"\u2018\u2019 ").rstrip("'\"\u2018\u2019 ")
    return re.sub(r"(?<=^\d{3})(\d*)\.0+$", r"\1", re.sub(r"\s", "", bare))


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
            "report-key-signs": _Index(exams, self.patient, _without_signs),
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
        if len(found.agreed) == 1:
            return next(iter(found.agreed))
        if found.agreed:
            self._notes.append(Note("report-key-ambiguous", place))
            return None
        code = "report-key-contradiction" if found.named else "report-without-study"
        self._notes.append(Note(code, place))
        if any(SCIENTIFIC.fullmatch(key) for key in keys[:3]):
            self._count("report-key-scientific", place)
        for near, index in self._near.items():
            if index.find(keys).agreed:
                self._count(near, place)
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


class _Match(NamedTuple):
    """Studies that a key of a row names, and those of them that no key of it contradicts."""

    named: set[str]
    agreed: set[str]


class _Index:
    """Studies by each of their keys, compared in one way."""

    def __init__(
        self, exams: Iterable[Exam], patient: Callable[[str], str], compare: Callable[[str], str]
    ):
        self.patient = lambda number: compare(patient(number))
        self.compare = compare
        self.exams = {exam.study: exam for exam in exams}
        self.studies: dict[str, set[str]] = defaultdict(set)
        self.accessions: dict[str, set[str]] = defaultdict(set)
        self.patients: dict[str, set[str]] = defaultdict(set)
        for exam in self.exams.values():
            self.studies[compare(exam.study)].add(exam.study)
            for accession in exam.accessions | exam.uids:
                self.accessions[compare(accession)].add(exam.study)
            if exam.patient:
                self.patients[self.patient(exam.patient)].add(exam.study)

    def find(self, keys: Keys) -> _Match:
        """Return the studies that a row names, and those with which all its keys agree.

        A key that the study lacks contradicts it only if it is another study's.
        """
        study = self.compare(keys.study)
        by_study = self.studies.get(study) or self.accessions.get(study) or set()
        by_accession = self.accessions.get(self.compare(keys.accession)) or set()
        by_patient = self.patients.get(self.patient(keys.patient)) or set()
        same_day = {name for name in by_patient if self.exams[name].day == keys.day}
        named = set()
        for key, found in (
            (keys.study, by_study),
            (keys.accession, by_accession),
            (keys.patient and keys.day, same_day),
        ):
            named |= found if key else set()
        agreed = set()
        for name in named:
            exam = self.exams[name]
            if (
                (not keys.study or name in by_study)
                and _agrees(keys.accession, name, by_accession, bool(exam.accessions))
                and _agrees(keys.patient, name, by_patient, bool(exam.patient))
                and _near(keys.day, exam.day)
            ):
                agreed.add(name)
        return _Match(named, agreed)


def _near(day: str, exam: str) -> bool:
    """Return True if a row's day fits the exam's: reports are signed within a month of the exam."""
    try:
        return abs((date.fromisoformat(day) - date.fromisoformat(exam)).days) <= DAYS
    except ValueError:  # one of them is not known
        return True


def _agrees(key: str, study: str, found: set[str], has: bool) -> bool:
    """Return True if a row's key is the study's, not given, or neither its nor another's."""
    return not key or study in found or not (has or found)
