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
MOST = 0.8  # share of the studies; an id of more than these is a constant
# What de-identification and test exports write instead of an id.
_PLACEHOLDER = re.compile(
    r"(anon\w*|unknown|none|null|na|n/a|nan|test|removed|de-?identified|no ?id|x+|0+|-+|patient)",
    re.IGNORECASE,
)
# What tells the images of one woman apart where each has an id of its own.
_OF_IMAGE = re.compile(r"[_ .-]*(LEFT|RIGHT|[LR])?[_ .-]*(MLO|CC|ML|LM)(?![A-Z])", re.IGNORECASE)


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
    if config.study == "accession" and header.accession:
        # A number that two patients share is no study of both.
        return f"{header.accession} {header.patient}"
    return header.study


def _patient_key(image: Found, study: str, config: IdentityConfig) -> str:
    """Return the patient's key; empty where the header has no id that means anything."""
    if config.patient == "study":
        return study
    key = image.header.patient
    if config.strip_suffix:
        key = key.partition("^")[0].strip()
    if _PLACEHOLDER.fullmatch(key.strip()):
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
    _require_patients(patients)
    single = sum(len(group) == 1 for group in studies.values())
    if single <= MOST * len(studies):
        return
    images = [group[0] for group in studies.values() if len(group) == 1]
    shared = Counter(image.header.accession for image in images if image.header.accession)
    joined = sum(count for count in shared.values() if count > 1)
    if config.study == "study_uid" and 2 * joined > len(images):
        raise DataError(
            f"{joined} images have a StudyInstanceUID of their own, but share accession numbers",
            where=f"{WHERE}.study",
            fix="Set it to accession",
        )
    stems = Counter(
        _OF_IMAGE.sub("", image.header.patient)
        for image in images
        if _OF_IMAGE.search(image.header.patient)
    )
    joined = sum(count for count in stems.values() if count > 1)
    if config.patient != "study" and 2 * joined > len(images):
        raise DataError(
            f"{joined} images have a PatientID of their own, which names side and view, so that "
            "views of one patient would be split",
            where=f"{WHERE}.patient",
            fix="Use the adapter of this data set, such as cbis_ddsm, or image_table",
        )


def _require_patients(patients: dict[str, set[str]]) -> None:
    keys = Counter(key for found in patients.values() for key in found)
    total = len(patients)
    if 2 * keys.pop("", 0) > total:
        raise DataError(
            f"most of the {total} studies have no PatientID, or a word in its place",
            where=f"{WHERE}.patient",
            fix="Export them with the archive's or a pseudonymous PatientID. Set it to study only "
            "if no patient has two studies here",
        )
    if keys and total >= FEW and (most := max(keys.values())) > MOST * total:
        raise DataError(
            f"one PatientID stands in {most} of {total} studies, so that they would be one patient",
            where=f"{WHERE}.patient",
            fix="Export them with the archive's or a pseudonymous PatientID. Set it to study only "
            "if no patient has two studies here",
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
