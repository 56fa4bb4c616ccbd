"""Exams of an archive's export: images grouped by study and patient, special kinds left out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mama.config.ingest import IngestConfig
from mama.data.adapters.identity import Exam, exams_of
from mama.data.adapters.joining import Exam as Keys
from mama.data.adapters.notes import Note
from mama.data.adapters.raw import RawImage, Skipped, may_show_one_view
from mama.data.dicom.header import Header
from mama.data.dicom.headers import ReadHeaders, read_headers
from mama.data.dicom.scan import Found, scan
from mama.system.logs import printable


@dataclass(frozen=True)
class ArchiveExam:
    """One study: its patient's key and age band, its images, and the keys of its report."""

    patient: str = field(repr=False)
    images: tuple[RawImage, ...]
    keys: Keys
    age: str | None


@dataclass(frozen=True)
class Archive:
    """All exams below a folder, the skipped files, and remarks."""

    exams: list[ArchiveExam]
    skipped: list[Skipped]
    notes: list[Note]


def read_archive(
    folder: Path, source: Path, config: IngestConfig, headers: ReadHeaders = read_headers
) -> Archive:
    """Read the headers below a folder and group its mammograms by study and patient.

    Args:
        folder: folder of the images.
        source: folder that paths in remarks are relative to.
        config: rules of identity, and the special kinds to keep.
        headers: reads the headers.

    Raises:
        DataError: the ids are unfit to tell patients or studies apart.
    """

    def name(path: Path) -> str:
        return printable(path.relative_to(source).as_posix())

    scanned = scan(folder, headers)
    skipped = [Skipped(name(path), reason) for path, reason in scanned.skipped]
    grouped, notes = exams_of(scanned.found, config.identity, lambda image: name(image.paths[0]))
    notes += [Note("archive", name(path)) for path in scanned.archives]
    exams = []
    for exam in grouped:
        kept = _kept(exam, config, name, skipped)
        images = [_image(found, config, name, notes, skipped) for found in kept]
        whole = tuple(image for image in images if image is not None)
        if whole:
            keys = _keys(exam, name(exam.images[0].paths[0]))
            ages = {found.header.age for found in exam.images} - {None}
            age = ages.pop() if len(ages) == 1 else None
            exams.append(ArchiveExam(exam.patient, whole, keys, age))
    return Archive(exams, skipped, notes)


def _keys(exam: Exam, where: str) -> Keys:
    headers = [found.header for found in exam.images]
    days = {header.date for header in headers if header.date}
    return Keys(
        study=exam.study,
        accessions=frozenset(header.accession for header in headers if header.accession),
        patient=headers[0].patient,
        day=days.pop() if len(days) == 1 else "",
        place=where,
        # With `study: accession` the study's key is no UID of an image.
        uids=frozenset(header.study for header in headers if header.study),
    )


def _kept(
    exam: Exam, config: IngestConfig, name: Callable[[Path], str], skipped: list[Skipped]
) -> list[Found]:
    """Return the images of an exam whose kinds are kept; the others are added to `skipped`.

    A synthetic image beside the original of the same breast and view shows the same exposure: as
    its second view it would make the contrast between views trivial. An original whose side or view
    is unknown may be that one.
    """
    originals = {
        (found.header.laterality, found.header.view)
        for found in exam.images
        if "synthetic" not in found.header.kinds
    }
    kept = []
    for found in exam.images:
        header = found.header
        left_out = sorted(header.kinds - set(config.keep))
        place = header.laterality, header.view
        if "synthetic" in header.kinds and any(may_show_one_view(place, o) for o in originals):
            left_out = ["synthetic"]
        if left_out:
            skipped.append(Skipped(name(found.paths[0]), left_out[0]))
        else:
            kept.append(found)
    return kept


def _image(
    found: Found,
    config: IngestConfig,
    name: Callable[[Path], str],
    notes: list[Note],
    skipped: list[Skipped],
) -> RawImage | None:
    """Return an image with its side by the policy on conflicts; None if it is left out."""
    header, where = found.header, name(found.paths[0])
    notes += [Note(code, where) for code in header.remarks]
    if found.shared:
        notes.append(Note("image-uid-shared", where))
    if "side-conflict" in header.remarks and config.conflicts == "exclude":
        skipped.append(Skipped(where, "side-unclear"))
        return None
    image = _raw(found, header, config)
    if image.laterality is None and "side-conflict" not in header.remarks:
        notes.append(Note("no-side", where))
    if image.view is None:
        notes.append(Note("no-view", where))
    return image


def _raw(found: Found, header: Header, config: IngestConfig) -> RawImage:
    doubtful = "side-conflict" in header.remarks and config.conflicts == "unknown"
    return RawImage(
        path=found.paths[0],
        id=found.id,
        laterality=None if doubtful else header.laterality,
        view=header.view,
        vendor=header.vendor,
        copies=found.paths[1:],
        flags=tuple(sorted(header.kinds)),
        hung=True,
        flipped=header.flipped,
        spacing=header.spacing,
    )
