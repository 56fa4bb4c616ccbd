"""Audit of a dataset: nobody is in two splits, and no picture or report under two patients.

Pictures are compared by their pixels, and by a perceptual hash: the signs of the horizontal
differences of a 16 x 17 thumbnail, which brightness, contrast and size do not change.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from PIL import Image as Pictures

from mama.data.manifest import Dataset
from mama.data.studies import Study

GRID = 16
# A report without a measurement may be the same normal report of many.
_MEASURED = re.compile(r"\d\s?(mm|cm)\b")


class PictureHash(NamedTuple):
    """Hashes of a picture, in hex: of its pixels, and of its looks."""

    pixels: str
    looks: str


class Finding(NamedTuple):
    """One fault: a code of `mama.data.adapters.notes`, and the ids concerned."""

    code: str
    ids: tuple[str, ...]


def hash_picture(pixels: np.ndarray) -> PictureHash:
    """Return the hashes of a picture, uint8 (height, width)."""
    exact = sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes())
    small = Pictures.fromarray(pixels).resize((GRID + 1, GRID), Pictures.Resampling.BOX)
    values = np.asarray(small, np.int16)
    bits = np.packbits(values[:, 1:] > values[:, :-1])
    return PictureHash(exact.hexdigest()[:32], bits.tobytes().hex())


def audit(studies: Iterable[Study], hashes: Mapping[str, PictureHash]) -> list[Finding]:
    """Return the faults of studies, given the hashes of their pictures by id."""
    studies = list(studies)
    owners = {image.id: study for study in studies for image in study.images}
    found = [
        Finding("patient-in-two-splits", (str(patient),))
        for patient, splits in _grouped((s.patient, s.split) for s in studies).items()
        if len(splits) > 1
    ]
    known: set[tuple[str, ...]] = set()
    for code, part in (("same-picture", 0), ("similar-picture", 1)):
        groups = _grouped((hashes[id][part], id) for id in sorted(owners) if id in hashes)
        for ids in groups.values():
            if len(ids) == 1 or ids in known:
                continue
            if code == "same-picture" or len({owners[id].patient for id in ids}) > 1:
                known.add(ids)
                found.append(Finding(code, ids))
    reports = _grouped((" ".join(study.texts()).lower(), study.patient) for study in studies)
    found += [
        Finding("same-report", patients)
        for text, patients in reports.items()
        if len(patients) > 1 and _MEASURED.search(str(text))
    ]
    return found


def audit_dataset(dataset: Dataset) -> list[Finding]:
    """Return the faults of a dataset on disk, whose pictures are all read."""
    studies = dataset.manifest.studies
    images = [image for study in studies for image in study.images]
    return audit(studies, {image.id: hash_picture(dataset.pixels(image)) for image in images})


def _grouped(pairs: Iterable[tuple[Hashable, str]]) -> dict[Hashable, tuple[str, ...]]:
    """Return the distinct values of each key, in order."""
    groups: dict[Hashable, dict[str, None]] = defaultdict(dict)
    for key, value in pairs:
        groups[key][value] = None
    return {key: tuple(values) for key, values in groups.items()}
