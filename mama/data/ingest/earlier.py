"""The last ingest into a dataset: its studies, and what it left out or remarked on."""

import json
from collections.abc import Set
from pathlib import Path

from pydantic import TypeAdapter

from mama.data.adapters.notes import Note
from mama.data.ingest.contents import Counts
from mama.data.manifest import MANIFEST, Dataset
from mama.data.studies import Image, Study
from mama.errors import DataError

MISSING = 0.1  # share of the last studies or images; if more are gone, none is removed
UNREAD = {"no-permission", "read-error"}  # reasons for which files below may be there
JSON = "ingest_report.json"

_COUNTS = TypeAdapter(Counts)


def studies_before(out: Path) -> list[Study]:
    """Return the studies of the last ingest; none if there was none or its manifest is damaged."""
    try:
        return list(Dataset(out).manifest.studies) if (out / MANIFEST).exists() else []
    except DataError:
        return []


def counts_before(out: Path) -> Counts | None:
    """Return the counts by reason and remark of the last ingest; None if they are not known."""
    try:
        values = json.loads((out / JSON).read_text(encoding="utf-8"))
        return _COUNTS.validate_python(values["by_code"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def with_missing(
    found: list[Study],
    before: list[Study],
    prune: bool,
    *,
    still: Set[str],
    left_out: int,
    unread: bool,
) -> tuple[list[Study], list[Note]]:
    """Return the found studies by id, with what the last ingest had if too much of it is gone.

    A source of which a large part is gone, or a part cannot be read, is more likely a share that is
    not mounted.

    Args:
        found: studies with a usable image.
        before: studies of the last ingest.
        prune: True to remove what is gone however much it is.
        still: ids of the images of the source, usable or not.
        left_out: by how many the files that are there but left out outnumber those of last time.
        unread: True if files or folders could not be read, so that nothing is known to be gone.
    """
    ids = {study.id for study in found}
    studies = [study for study in before if study.id not in ids]
    total = sum(len(study.images) for study in before)
    images = {
        image.id: image for study in before for image in study.images if image.id not in still
    }
    notes, most = [], 0 if unread else MISSING
    if len(studies) > most * len(before):
        notes.append(Note("source-shrank", f"{len(studies)} of {len(before)} studies"))
    elif len(images) - (0 if unread else max(left_out, 0)) > most * total:
        notes.append(Note("source-shrank", f"{len(images)} of {total} images"))
    if prune or not notes:
        return sorted(found, key=lambda study: study.id), []
    lost = {study.id: [one for one in study.images if one.id in images] for study in before}
    kept = [_with_images(study, lost.get(study.id, [])) for study in found] + studies
    return sorted(kept, key=lambda study: study.id), notes


def _with_images(study: Study, lost: list[Image]) -> Study:
    images = sorted([*study.images, *lost], key=lambda image: image.id)
    return study.model_copy(update={"images": tuple(images)}) if lost else study
