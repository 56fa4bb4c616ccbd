"""Queries of an archive: its studies by date and modality, and which instances are mammograms.

Answers are checked: an archive may ignore a filter, repeat a page, or name a UID that is a path.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword

from mama.config.ingest import PacsConfig
from mama.data.dicom.fields import Fields
from mama.data.dicom.file import quiet
from mama.data.dicom.header import HEADER_FIELDS
from mama.data.dicom.kinds import exclusion
from mama.data.dicom.reasons import ImageError, Reason
from mama.data.pacs.archive import Archive
from mama.data.pacs.faults import ArchiveError, StudyError
from mama.errors import DataError

PAGE = 100  # studies asked for at a time; some archives refuse more
MOST_STUDIES = 2_000_000  # an archive that never ends a list is stopped
# Components with leading zeros are no valid UIDs, but old archives have them.
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_TAGS = {f"{tag_for_keyword(name):08X}" for name in HEADER_FIELDS}


@dataclass(frozen=True)
class Listed:
    """A study that an archive lists; `repr` omits its identifiers.

    Attributes:
        instances: number of its instances; None if the archive does not say.
    """

    uid: str = field(repr=False)
    patient: str = field(repr=False)
    instances: int | None


@dataclass(frozen=True)
class Instance:
    """An instance of a study, and the reason for which it is no mammogram for reading."""

    series: str = field(repr=False)
    uid: str = field(repr=False)
    reason: Reason | None


def list_studies(archive: Archive, config: PacsConfig) -> tuple[list[Listed], int]:
    """Return the studies of the configured dates and modality by UID, and the number without one.

    Raises:
        DataError: there is none.
        ArchiveError: the archive fails, or its list cannot be known to be whole.
    """
    first, last = config.study_date
    filters = {"ModalitiesInStudy": config.modality}
    if first or last:
        filters["StudyDate"] = f"{_day(first)}-{_day(last)}"
    found: dict[str, Listed] = {}
    unnamed = 0
    for item in _items(archive, filters):
        uid = value(item, "StudyInstanceUID")
        if not is_uid(uid):
            unnamed += 1
        elif _matches(item, config):
            found[uid] = Listed(uid, value(item, "PatientID"), _count(item))
    if not found and not unnamed:
        raise DataError(
            f"has no study of modality {config.modality} and these dates",
            where=archive.url,
            fix="Check data.pacs.study_date and data.pacs.modality",
        )
    return sorted(found.values(), key=lambda study: study.uid), unnamed


def list_instances(archive: Archive, study: str) -> list[Instance]:
    """Return the instances of a study by UID, judged by their headers.

    Raises:
        StudyError: the archive does not give them, or names none or one that is not of the study.
    """
    found: dict[str, Instance] = {}
    for item in archive.metadata(study):
        series, uid = value(item, "SeriesInstanceUID"), value(item, "SOPInstanceUID")
        if not (is_uid(series) and is_uid(uid)) or value(item, "StudyInstanceUID") != study:
            raise StudyError("names an object without valid UIDs", where=archive.url)
        found[uid] = Instance(series, uid, _reason(item))
    if not found:
        raise StudyError("lists no object of a study", where=archive.url)
    return sorted(found.values(), key=lambda instance: instance.uid)


def is_uid(text: str) -> bool:
    """Return True for a UID, which is then safe as the name of a file."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def value(item: Any, keyword: str) -> str:
    """Return the first value of an attribute of DICOM JSON as text; empty if there is none."""
    values = _values(item, keyword)
    return values[0] if values else ""


def _values(item: Any, keyword: str) -> list[str]:
    attribute = item.get(f"{tag_for_keyword(keyword):08X}") if isinstance(item, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    if not isinstance(values, list):
        return []
    return [str(one).strip() for one in values if isinstance(one, str | int)]


def _items(archive: Archive, filters: dict[str, str]) -> Iterator[Any]:
    """Yield the studies of all pages; end where a page has nothing new."""
    seen: set[str] = set()
    offset = 0
    while page := archive.search(filters, PAGE, offset):
        names = {value(item, "StudyInstanceUID") for item in page}
        if names <= seen:
            if len(page) == PAGE or archive.incomplete:
                raise ArchiveError(
                    f"repeats its list after {len(seen)} studies, so that others may be missing",
                    where=archive.url,
                    fix="Give fewer days as data.pacs.study_date",
                )
            return
        yield from page
        seen |= names
        offset += len(page)
        if offset > MOST_STUDIES:
            fix = "Give fewer days as data.pacs.study_date"
            what = f"lists more than {MOST_STUDIES:,} studies"
            raise ArchiveError(what, where=archive.url, fix=fix)


def _matches(item: Any, config: PacsConfig) -> bool:
    """Return True unless what the archive says of a study contradicts the filters."""
    day, (first, last) = value(item, "StudyDate"), config.study_date
    modalities = _values(item, "ModalitiesInStudy")
    if modalities and config.modality not in modalities:
        return False
    return not day or (_day(first) or "0") <= day.replace("-", "") <= (_day(last) or "9")


def _day(day: date | None) -> str:
    return f"{day:%Y%m%d}" if day else ""


def _count(item: Any) -> int | None:
    text = value(item, "NumberOfStudyRelatedInstances")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _reason(item: dict[str, Any]) -> Reason | None:
    """Return the reason to leave an instance in the archive; None if the pixels must be seen."""
    place = Path("metadata")
    try:
        with quiet(place):
            wanted = {tag: item[tag] for tag in _TAGS & set(item)}
            header = pydicom.Dataset.from_json(wanted)
            # Some archives give a selection of the header: what it omits is not missing.
            header.setdefault("Rows", 1)
            header.setdefault("Modality", "MG")
            return exclusion(Fields(header))
    except ImageError:
        return None
