"""Audit of a dataset: nobody is in two splits, and no picture or report under two patients.

Pictures are compared by their pixels, and by a perceptual hash: the signs of the horizontal
differences of a 16 x 17 thumbnail, which brightness, contrast and size do not change. Another
window, compression or crop by some pixels changes a few of them.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from PIL import Image as Pictures

from mama.data.adapters.notes import Note
from mama.data.manifest import Dataset
from mama.data.studies import Study

GRID = 16
# Of 256 bits. Copies differ by up to 5; no two of 216 scanned films by fewer than 17, none of 60
# synthetic patients by fewer than 49.
NEAR = 6
WINDOW = 64  # pictures compared with the next ones of an equal band: time grows with their number
NAMED = 3  # other files that a note names
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
    present = [id for id in sorted(owners) if id in hashes]
    same = [ids for ids in _grouped((hashes[id].pixels, id) for id in present).values() if ids[1:]]
    found += [Finding("same-picture", ids) for ids in same]
    patients = [owners[id].patient for id in present]
    found += [
        Finding("similar-picture", ids)
        for group in alike([hashes[id].looks for id in present], patients)
        if (ids := tuple(present[place] for place in group)) not in same
    ]
    reports = _grouped((" ".join(study.texts()).lower(), study.patient) for study in studies)
    found += [
        Finding("same-report", patients)
        for text, patients in reports.items()
        if len(patients) > 1 and _MEASURED.search(str(text))
    ]
    return found


def alike(looks: Sequence[str], patients: Sequence[str]) -> list[list[int]]:
    """Return groups of pictures of several patients that look the same, by their places.

    Bits are dealt to one band more than may differ, so that two near hashes have an equal band;
    those of one band are sorted, and each is compared with the next of the same value.

    Args:
        looks: hashes in hex.
        patients: of the pictures.
    """
    if len(looks) < 2:
        return []
    size = GRID * GRID // 8
    packed = np.frombuffer(bytes.fromhex("".join(looks)), np.uint8).reshape(len(looks), size)
    bits = np.unpackbits(packed, axis=1).astype(np.uint64)
    owners = np.unique(np.array(patients), return_inverse=True)[1]
    pairs: set[tuple[int, int]] = set()
    for band in range(NEAR + 1):
        part = bits[:, band :: NEAR + 1]
        keys = part @ (np.uint64(1) << np.arange(part.shape[1], dtype=np.uint64))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for step in range(1, min(WINDOW, len(keys))):
            equal = np.flatnonzero(keys[step:] == keys[:-step])
            if not equal.size:
                break
            one, other = order[equal], order[equal + step]
            differ = np.bitwise_count(packed[one] ^ packed[other]).sum(1)
            chosen = (differ <= NEAR) & (owners[one] != owners[other])
            pairs.update(zip(one[chosen].tolist(), other[chosen].tolist(), strict=True))
    return _joined(pairs)


def _joined(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the places that pairs join, as sorted groups."""
    group: dict[int, list[int]] = {}
    for one, other in sorted(pairs):
        a, b = group.setdefault(one, [one]), group.setdefault(other, [other])
        if a is not b:
            a += b
            group |= dict.fromkeys(b, a)
    return sorted({min(found): sorted(found) for found in group.values()}.values())


def audit_dataset(dataset: Dataset) -> list[Finding]:
    """Return the faults of a dataset on disk, whose pictures are all read."""
    studies = dataset.manifest.studies
    images = [image for study in studies for image in study.images]
    return audit(studies, {image.id: hash_picture(dataset.pixels(image)) for image in images})


def located(
    found: Iterable[Finding], studies: Iterable[Study], files: Mapping[str, str]
) -> list[Note]:
    """Return notes on findings, which name files and not ids.

    Args:
        found: the findings.
        studies: of the dataset; a patient is represented by the first image.
        files: names of the images' files, by the image's id.
    """
    firsts = {study.patient: study.images[0].id for study in reversed(list(studies))}
    notes = []
    for code, ids in found:
        places = [files.get(firsts.get(id, id), id) for id in ids]
        # At each picture, so that the page shows them all.
        for place in places if code.endswith("picture") else places[:1]:
            others = [other for other in places if other != place]
            more = f" and {len(others) - NAMED} more" if others[NAMED:] else ""
            same = f"as {', '.join(others[:NAMED])}{more}" if others else ""
            notes.append(Note(code, place, same))
    return notes


def _grouped(pairs: Iterable[tuple[Hashable, str]]) -> dict[Hashable, tuple[str, ...]]:
    """Return the distinct values of each key, in order."""
    groups: dict[Hashable, dict[str, None]] = defaultdict(dict)
    for key, value in pairs:
        groups[key][value] = None
    return {key: tuple(values) for key, values in groups.items()}
