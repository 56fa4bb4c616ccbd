"""Identity: which images are one study, and which studies are one patient.

A mistake here puts views of one woman into training and test, or gives her another's report. Ids
that are missing, shared by everyone or new in every image are therefore refused by name.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mama.config.ingest import IdentityConfig
from mama.data.adapters.notes import Note
from mama.data.dicom.scan import Found
from mama.errors import DataError

WHERE = "data.ingest.identity"
FEW = 5  # studies; below it a shared id is no sign of a constant one
MANY = 10  # studies; from here on, a share of them is a sign
MOST = 0.8  # share that is no chance among a few
CONSTANTS = 3  # ids that together may stand for most patients, such as one of each scanner
EXPORT = (
    "Export them with the archive's or a pseudonymous PatientID. Set it to study only if no "
    "patient has two studies here"
)
# What de-identification and test exports write instead of an id.
_PLACEHOLDER = re.compile(
    r"(anon\w*|unknown|none|null|na|n/a|nan|test|removed|de-?identified|no ?id|x+|0+|-+|patient"
    r"|dummy\w*|default|missing|empty|blank|\?+)",
    re.IGNORECASE,
)
# What tells the images or breasts of one woman apart where each has an id of its own.
_OF_IMAGE = re.compile(
    r"[_ .-]*(LEFT|RIGHT|[LR])?[_ .-]*(MLO|CC|ML|LM)(?![A-Z])|[_ .-](LEFT|RIGHT|[LR])$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Exam:
    """One study: its key, its patient's key, and its images; `repr` omits them."""

    study: str = field(repr=False)
    patient: str = field(repr=False)
    images: tuple[Found, ...] = field(repr=False)


def exams_of(
    found: Iterable[Found], config: IdentityConfig, name: Callable[[Found], str]
) -> tuple[list[Exam], list[Note]]:
    """Group images into studies and studies into patients.

    Args:
        found: the mammograms of a source.
        config: the rules.
        name: returns the place of an image for a note.

    Returns:
        Studies in the order of their keys, and notes on studies that were left out or doubtful.

    Raises:
        DataError: the ids of the source are unfit for these rules; the error says what to set.
    """
    images = list(found)
    studies: dict[str, list[Found]] = defaultdict(list)
    for image in images:
        studies[_study_key(image, config)].append(image)
    patients = {
        study: {_patient_key(image, study, config) for image in group}
        for study, group in studies.items()
    }
    _require_ids(studies, patients, config)
    exams, notes = [], []
    for study in sorted(studies):
        group, keys = studies[study], patients[study]
        where = name(group[0])
        if len(keys) > 1:
            notes.append(Note("several-patients", where))
        elif keys == {""}:
            notes.append(Note("no-patient", where))
        else:
            exams.append(Exam(study, keys.pop(), tuple(group)))
    return exams, notes + _several_birth_dates(exams, name)


def _study_key(image: Found, config: IdentityConfig) -> str:
    header = image.header
    if config.study == "accession" and not no_id(header.accession):
        # A number that two patients or days share is no study of both.
        return " ".join(filter(None, (header.accession, header.patient, header.date)))
    return header.study


def no_id(text: str) -> bool:
    """Return True for an empty id and for a word in the place of one."""
    return not text.strip() or _PLACEHOLDER.fullmatch(text.strip()) is not None


def _patient_key(image: Found, study: str, config: IdentityConfig) -> str:
    """Return the patient's key; empty where the header has no id that means anything."""
    if config.patient == "study":
        return study
    key = image.header.patient
    if config.strip_suffix:
        key = key.partition("^")[0].strip()
    if no_id(key):
        return ""
    if config.strip_zeros:
        key = key.lstrip("0")
    if config.patient == "patient_id_and_issuer" and key:
        return f"{key} {image.header.issuer}"
    return key


def _require_ids(
    studies: dict[str, list[Found]], patients: dict[str, set[str]], config: IdentityConfig
) -> None:
    """Refuse a source whose ids cannot be those of patients and studies."""
    require_shared(Counter(key for found in patients.values() for key in found), len(patients))
    if config.patient != "study":
        require_own(
            Counter(image.header.patient for group in studies.values() for image in group),
            "Use the adapter of this data set, such as cbis_ddsm, or image_table",
        )
    images = [group[0] for group in studies.values() if len(group) == 1]
    if config.study == "study_uid" and len(images) > MOST * len(studies):
        _require_studies(images)


def _require_studies(images: list[Found]) -> None:
    """Refuse images that are alone in their studies but belong together by another sign."""
    headers = [image.header for image in images]
    shared = Counter(h.accession for h in headers if not no_id(h.accession))
    joined = sum(count for count in shared.values() if count > 1)
    if 2 * joined > len(images):
        raise DataError(
            f"{joined} images have a StudyInstanceUID of their own, but share accession numbers",
            where=f"{WHERE}.study",
            fix="Set it to accession",
        )
    # Several views of one patient and day; yearly exams of one view each are no sign.
    views: dict[tuple[str, str], list[tuple[str | None, str | None]]] = defaultdict(list)
    for h in headers:
        if not no_id(h.patient):
            views[h.patient, h.date].append((h.laterality, h.view))
    joined = sum(len(found) for found in views.values() if len(set(found)) > 1)
    if len(images) >= MANY and 2 * joined > len(images):
        raise DataError(
            f"{joined} images have a StudyInstanceUID of their own, but share patient and date",
            where=f"{WHERE}.study",
            fix="Export them with the archive's StudyInstanceUID, or with accession numbers and "
            "set it to accession",
        )


def require_own(patients: Counter[str], fix: str) -> None:
    """Refuse ids that are new in each image or breast of a patient.

    Args:
        patients: images of each id.
        fix: what to do about ids that name side or view.

    Raises:
        DataError: they are.
    """
    stems = Counter(_OF_IMAGE.sub("", id) for id in patients if _OF_IMAGE.search(id))
    joined = [id for id in patients if stems[_OF_IMAGE.sub("", id)] > 1]
    if 2 * len(joined) > len(patients):
        images = sum(patients[id] for id in joined)
        raise DataError(
            f"{images} images have a PatientID of their own, which names side and view, so that "
            "views of one patient would be split",
            where=f"{WHERE}.patient",
            fix=fix,
        )
    single = sum(count == 1 for count in patients.values())
    if len(patients) >= MANY and single > MOST * len(patients):
        raise DataError(
            f"{single} of {len(patients)} PatientIDs have one image each, as if each image had an "
            "id of its own, so that views of one patient would be split",
            where=f"{WHERE}.patient",
            fix=EXPORT,
        )


def require_shared(keys: Counter[str], total: int) -> None:
    """Refuse ids that are missing in most studies, or shared by most of them.

    Args:
        keys: studies of each id; that of an empty one has none.
        total: number of studies.

    Raises:
        DataError: they are.
    """
    if 2 * keys.pop("", 0) > total:
        raise DataError(
            f"most of the {total} studies have no PatientID, or a word in its place",
            where=f"{WHERE}.patient",
            fix=EXPORT,
        )
    counts = sorted(keys.values(), reverse=True)
    most, few = sum(counts[:1]), sum(counts[:CONSTANTS])
    constant = most > MOST * total if total < MANY else 2 * most > total
    if total >= FEW and constant:
        raise DataError(
            f"one PatientID stands in {most} of {total} studies, so that they would be one patient",
            where=f"{WHERE}.patient",
            fix=EXPORT,
        )
    if total >= 2 * MANY and few > MOST * total:
        raise DataError(
            f"{len(counts[:CONSTANTS])} PatientIDs stand in {few} of {total} studies, as if each "
            "stood for many patients",
            where=f"{WHERE}.patient",
            fix=EXPORT,
        )


def _several_birth_dates(exams: Iterable[Exam], name: Callable[[Found], str]) -> list[Note]:
    """Return a note for each patient's key that comes with several dates of birth."""
    dates: dict[str, set[str]] = defaultdict(set)
    first: dict[str, Found] = {}
    for exam in exams:
        for image in exam.images:
            if image.header.birth_date:
                dates[exam.patient].add(image.header.birth_date)
                first.setdefault(exam.patient, image)
    return [
        Note("several-birth-dates", name(first[patient]))
        for patient, found in dates.items()
        if len(found) > 1
    ]
