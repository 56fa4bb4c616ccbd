"""The last ingest into a dataset: its studies, and what it left out or remarked on."""

import json
from pathlib import Path

from pydantic import TypeAdapter

from mama.data.adapters.notes import Note
from mama.data.ingest.contents import Counts
from mama.data.manifest import MANIFEST, Dataset
from mama.data.studies import Study
from mama.errors import DataError

MISSING = 0.1  # share of the last studies; if more are gone, none is removed without `prune`
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
    found: list[Study], before: list[Study], prune: bool
) -> tuple[list[Study], list[Note]]:
    """Return the found studies by id, with those of the last ingest if too many of them are gone.

    A source of which a large part is gone is more likely a share that is not mounted.
    """
    ids = {study.id for study in found}
    missing = [study for study in before if study.id not in ids]
    kept, notes = list(found), []
    if not prune and len(missing) > MISSING * len(before):
        notes.append(Note("source-shrank", f"{len(missing)} of {len(before)} studies"))
        kept += missing
    return sorted(kept, key=lambda study: study.id), notes
