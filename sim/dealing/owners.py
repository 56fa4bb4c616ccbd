"""Hospitals of a dataset's patients: drawn evenly, by vendor, or by Dirichlet over a label.

All studies of a patient go to one hospital and keep their split.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from mama.data.studies import Split, Study
from mama.errors import DataError
from mama.system.seeds import numpy_generator
from sim.config import DealConfig, DealtLabel

SPLITS: tuple[Split, ...] = ("train", "test")
UNKNOWN = "unknown"
Key = TypeVar("Key", bound=Hashable)


class Patient(NamedTuple):
    """A patient of the dataset, with the values by which patients are dealt."""

    id: str
    split: Split
    vendor: str | None
    label: str | None


def deal(studies: Iterable[Study], sites: int, how: DealConfig, seed: int) -> list[list[Study]]:
    """Return the studies of each hospital, in the order of the dataset.

    Every hospital has a patient to train on.

    Args:
        studies: of the dataset.
        sites: number of hospitals.
        how: the rule.
        seed: of all draws.

    Raises:
        DataError: there are fewer patients or vendors than hospitals, no study has the vendor or
            label, or a patient is in two splits.
    """
    studies = list(studies)
    patients = _patients(studies, how.label)
    trained = sum(patient.split == "train" for patient in patients)
    if trained < sites:
        raise DataError(
            f"{trained} patients to train on are too few for {sites} hospitals",
            where="simulation.sites",
            fix="Lower it, or give a larger dataset",
        )
    order = numpy_generator(seed, "deal").permutation(len(patients))
    drawn = [patients[place] for place in order]
    if how.by == "patient":
        owners = _evenly(drawn, sites)
    elif how.by == "vendor":
        owners = _by_vendor(drawn, sites)
    else:
        owners = _by_label(drawn, sites, how, seed)
    dealt: list[list[Study]] = [[] for _ in range(sites)]
    for study in studies:
        dealt[owners[study.patient]].append(study)
    return dealt


def _patients(studies: list[Study], label: DealtLabel | None) -> list[Patient]:
    """Return the patients in the order of their ids."""
    grouped: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        grouped[study.patient].append(study)
    found = []
    for id, own in sorted(grouped.items()):
        splits = {study.split for study in own}
        if len(splits) > 1:
            raise DataError(
                "a patient has studies in both splits",
                where="--data",
                fix="Run `mama audit` on the dataset, and ingest it again",
            )
        vendors = [image.vendor for study in own for image in study.images if image.vendor]
        labels = [value for study in own if (value := label and _value(study, label))]
        found.append(Patient(id, splits.pop(), _usual(vendors), _usual(labels)))
    return found


def _value(study: Study, label: DealtLabel) -> str | None:
    if label == "density":
        return study.labels.density
    breasts = getattr(study.labels, label)
    return ("yes" if any(breasts.values()) else "no") if breasts else None


def _usual(values: Iterable[str]) -> str | None:
    """Return the most frequent value; the first in the alphabet of several."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value), default=None)


def _evenly(patients: list[Patient], sites: int) -> dict[str, int]:
    """Deal in turns, training patients first, so that each split is even too."""
    ordered = [patient for split in SPLITS for patient in patients if patient.split == split]
    return {patient.id: place % sites for place, patient in enumerate(ordered)}


def _by_vendor(patients: list[Patient], sites: int) -> dict[str, int]:
    """Give each vendor's patients to one hospital, the largest vendors first."""
    groups = _grouped((patient.vendor or UNKNOWN, patient) for patient in patients)
    if set(groups) == {UNKNOWN}:
        raise DataError(
            "no image states its vendor",
            where="simulation.deal.by",
            fix="Deal by patient, or by dirichlet",
        )
    groups = {name: own for name, own in groups.items() if any(p.split == "train" for p in own)}
    if len(groups) < sites:
        raise DataError(
            f"the vendors with patients to train on are {', '.join(sorted(groups))}: too few for "
            f"{sites} hospitals",
            where="simulation.sites",
            fix=f"Set it to {len(groups)} at most",
        )
    owners: dict[str, int] = {}
    sizes = [0] * sites
    for name in sorted(groups, key=lambda name: (-len(groups[name]), name)):
        site = sizes.index(min(sizes))
        sizes[site] += len(groups[name])
        owners |= dict.fromkeys((patient.id for patient in groups[name]), site)
    # Vendors with test patients only.
    rest = [patient for patient in patients if patient.id not in owners]
    return owners | _evenly(rest, sites)


def _by_label(patients: list[Patient], sites: int, how: DealConfig, seed: int) -> dict[str, int]:
    """Draw each class's shares of the hospitals from Dirichlet(alpha, ..., alpha).

    Both splits have the same shares (Yurochkin et al., "Bayesian Nonparametric Federated Learning
    of Neural Networks", 2019). Patients without the label are dealt evenly.
    """
    groups = _grouped((patient.label or UNKNOWN, patient) for patient in patients)
    unlabelled = groups.pop(UNKNOWN, [])
    if not groups:
        raise DataError(
            f"no study has the label {how.label}",
            where="simulation.deal.label",
            fix="Choose another label, or deal by patient",
        )
    owners = _evenly(unlabelled, sites)
    random = numpy_generator(seed, "deal", "dirichlet")
    for _, members in sorted(groups.items()):
        ends = np.cumsum(random.dirichlet([how.alpha or 1.0] * sites))
        for split in SPLITS:
            own = [patient.id for patient in members if patient.split == split]
            places = np.searchsorted(ends, (np.arange(len(own)) + 0.5) / max(len(own), 1))
            owners |= zip(own, np.minimum(places, sites - 1).tolist(), strict=True)
    return _without_empty(owners, patients, sites)


def _without_empty(owners: dict[str, int], patients: list[Patient], sites: int) -> dict[str, int]:
    """Give each hospital without a training patient one of the largest hospital's."""
    training = [patient.id for patient in patients if patient.split == "train"]
    for site in range(sites):
        counts = Counter(owners[patient] for patient in training)
        if not counts[site]:
            largest = min(counts, key=lambda owner: (-counts[owner], owner))
            moved = next(patient for patient in training if owners[patient] == largest)
            owners[moved] = site
    return owners


def _grouped(pairs: Iterable[tuple[Key, Patient]]) -> dict[Key, list[Patient]]:
    groups: Mapping[Key, list[Patient]] = defaultdict(list)
    for key, patient in pairs:
        groups[key].append(patient)
    return dict(groups)
