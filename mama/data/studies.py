"""Records of exams (images, report and labels), and sequences of them that are read when needed.

`mama.data.manifest` reads datasets of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import Literal, Self, overload

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

Laterality = Literal["L", "R"]
Split = Literal["train", "test"]


class Record(BaseModel):
    """Base of a dataset's records: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Box(Record):
    """A finding's box in pixels of the cached picture, which is cropped, mirrored and resized.

    `x0` and `x1` count from the chest wall, `y0` and `y1` downwards; the end is excluded.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    label: str


class Image(Record):
    """One mammogram in the cache.

    `boxes` are the lesions that the set marks in it, for evaluation; `flags` are its special kinds
    (`mama.config.ingest.Kind`), such as "synthetic".
    """

    id: str
    laterality: Laterality | None
    view: str | None
    vendor: str | None
    height: int
    width: int
    boxes: tuple[Box, ...] = ()
    flags: tuple[str, ...] = ()


class Labels(Record):
    """Labels of a study for evaluation; None if unknown.

    `density` is the site's category name (BI-RADS "A".."D", or MIAS "F", "G", "D"). By laterality,
    `suspicious` says whether the breast has a suspicious lesion, `birads` gives its category ("0"
    to "6", "4A" to "4C"), `cancer` whether pathology found cancer, `findings` what is seen in it.
    """

    density: str | None = None
    suspicious: dict[Laterality, bool] | None = None
    birads: dict[Laterality, str] | None = None
    cancer: dict[Laterality, bool] | None = None
    findings: dict[Laterality, tuple[str, ...]] | None = None


class Sentence(Record):
    """One sentence of a report, or its part about one breast.

    `side` is the breast that it is about; None if that cannot be known, so that it belongs to
    neither breast alone. `section` is the part of the report: findings, impression, assessment,
    addendum, composition, comparison or indication; None without a heading.
    """

    text: str
    side: Literal["L", "R", "both"] | None
    section: str | None


class Study(Record):
    """One exam of one patient; `patient` and `id` are keyed hashes without meaning elsewhere.

    `age` is the band of the patient's age, such as 50-59; None if unknown.
    """

    id: str
    patient: str
    split: Split
    images: tuple[Image, ...]
    sentences: tuple[Sentence, ...]
    labels: Labels
    age: str | None = None

    def about(self, side: Laterality | None) -> tuple[Sentence, ...]:
        """Return all sentences but those about the other breast; None is the whole report.

        A sentence of unknown side is in the text of both breasts. The local term leaves it out
        (`mama.training.objective`), since it would teach that a finding is where it is not.
        """
        return tuple(s for s in self.sentences if side is None or s.side in (side, "both", None))

    def texts(self, side: Laterality | None = None) -> tuple[str, ...]:
        """Return the texts of the sentences of `about`."""
        return tuple(sentence.text for sentence in self.about(side))


class Columns(Record):
    """Columns of all studies of a dataset, which are known without reading a study.

    `patient` holds places in `patients`, the sorted pseudonyms; the others are those of `Study`.
    """

    id: tuple[str, ...]
    patient: tuple[int, ...]
    patients: tuple[str, ...]
    split: tuple[Split, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not len(self.id) == len(self.patient) == len(self.split):
            raise ValueError("columns of different lengths")
        if self.patient and not 0 <= min(self.patient) <= max(self.patient) < len(self.patients):
            raise ValueError("no such patient")
        return self

    @classmethod
    def of(cls, studies: Iterable[Study]) -> "Columns":
        """Return the columns of studies."""
        rows = [(study.id, study.patient, study.split) for study in studies]
        patients = sorted({patient for _, patient, _ in rows})
        places = {patient: place for place, patient in enumerate(patients)}
        return cls(
            id=tuple(id for id, _, _ in rows),
            patient=tuple(places[patient] for _, patient, _ in rows),
            patients=tuple(patients),
            split=tuple(split for _, _, split in rows),
        )


class Table:
    """Studies of a dataset: columns in memory, and a function that builds one study.

    Args:
        columns: of all studies.
        build: returns a study, given its row.
    """

    def __init__(self, columns: Columns, build: Callable[[int], Study]):
        self.ids, self.patients, self.build = columns.id, columns.patients, build
        self.patient = np.array(columns.patient, np.int64)
        self.test = np.array([split == "test" for split in columns.split], bool)


class Studies(Sequence[Study]):
    """Rows of a table, in any order; a study is built each time it is asked for.

    An index gives a study; a slice, or an array of numbers or of booleans, gives `Studies`.
    """

    def __init__(self, table: Table, rows: np.ndarray):
        self._table, self._rows = table, rows

    @classmethod
    def of(cls, studies: Iterable[Study]) -> "Studies":
        """Return studies as `Studies`; those that are not yet are kept in memory."""
        if isinstance(studies, Studies):
            return studies
        held = tuple(studies)
        return cls.all_of(Table(Columns.of(held), held.__getitem__))

    @classmethod
    def all_of(cls, table: Table) -> "Studies":
        """Return all studies of a table."""
        return cls(table, np.arange(len(table.ids)))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, item: int) -> Study: ...
    @overload
    def __getitem__(self, item: slice | np.ndarray) -> "Studies": ...
    def __getitem__(self, item: int | slice | np.ndarray) -> "Study | Studies":
        found = self._rows[item]
        if isinstance(item, slice | np.ndarray):
            return Studies(self._table, found)
        return self._table.build(int(found))

    def __iter__(self) -> Iterator[Study]:
        return map(self._table.build, map(int, self._rows))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def ids(self) -> list[str]:
        """Ids of the studies."""
        return [self._table.ids[row] for row in self._rows]

    @property
    def patients(self) -> list[str]:
        """Pseudonyms of the patient of each study."""
        return [self._table.patients[place] for place in self._table.patient[self._rows]]

    def of_split(self, split: Split) -> "Studies":
        """Return the studies of one split."""
        return self[self._table.test[self._rows] == (split == "test")]

    def by_patient(self) -> "Patients":
        """Return the studies of each patient."""
        return Patients(self, self._table.patient[self._rows])

    def mapped(self, change: Callable[[Study], Study]) -> "Studies":
        """Return the studies changed by a function that keeps their ids, patients and splits."""
        table = copy(self._table)
        table.build = lambda row: change(self._table.build(row))
        return Studies(table, self._rows)


class Patients(Sequence[Studies]):
    """Studies of each patient, in the order of the pseudonyms.

    Args:
        studies: of all the patients.
        owners: (studies,) number of the patient of each study, in the order of the pseudonyms.
    """

    def __init__(self, studies: Studies, owners: np.ndarray):
        order = np.argsort(owners, kind="stable")
        self._studies = studies[order]
        changes = np.flatnonzero(np.diff(owners[order])) + 1
        self._ends = np.array([0, *changes, len(owners)]) if len(owners) else np.zeros(1, int)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def names(self) -> list[str]:
        """Pseudonyms of the patients."""
        return self._studies[self._ends[:-1]].patients

    @overload
    def __getitem__(self, item: int) -> Studies: ...
    @overload
    def __getitem__(self, item: slice) -> list[Studies]: ...
    def __getitem__(self, item: int | slice) -> Studies | list[Studies]:
        if isinstance(item, slice):
            return [self[number] for number in range(*item.indices(len(self)))]
        number = range(len(self))[item]
        return self._studies[self._ends[number] : self._ends[number + 1]]
