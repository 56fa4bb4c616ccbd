"""Ingest: convert a hospital's folder into a dataset (manifest and image cache) without its ids.

Each id in the manifest is the HMAC-SHA256 of the hospital's identifier under the site's secret: it
is meaningless outside the site and stable across ingests.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.config.output_folder import refuse_foreign
from mama.data import adapters
from mama.data.adapters import RawDataset, RawImage, RawStudy, Skipped
from mama.data.adapters.notes import Note
from mama.data.dicom.reasons import REASONS
from mama.data.ingest.audit import audit, located
from mama.data.ingest.boxes import in_picture
from mama.data.ingest.cache import ImageCache, Source
from mama.data.ingest.contents import Counts, contents_of
from mama.data.ingest.earlier import JSON, UNREAD, counts_before, studies_before, with_missing
from mama.data.ingest.headers import HEADERS, HeaderCache
from mama.data.ingest.ids import Ids, key_for, known_key, require_compatible
from mama.data.ingest.page import write_page
from mama.data.ingest.report import PAGE, IngestReport
from mama.data.ingest.reports import read_text, values, with_text
from mama.data.manifest import MANIFEST, Manifest, write_manifest
from mama.data.secret import key_check
from mama.data.studies import Image, Split, Study
from mama.errors import DataError
from mama.system.files import remove_unfinished
from mama.system.locks import at_work_in
from mama.system.logs import printable

Progress = Callable[[str, int, int], None]


def untold(stage: str, done: int, total: int) -> None:
    """Tell nobody of the progress."""


def ingest(  # noqa: PLR0913  (keywords)
    source: Path,
    out: Path,
    *,
    adapter: str,
    secret: bytes | Path,
    long_side: int,
    config: IngestConfig = DEFAULTS,
    test_fraction: float = 0.2,
    workers: int = 1,
    split: Callable[[RawStudy], Split] | None = None,
    share_weights: bool | None = None,
    prune: bool = False,
    progress: Progress = untold,
) -> IngestReport:
    """Read `source` into the dataset folder `out`.

    Ingest can be repeated, and resumes after an interruption. The result depends neither on
    `workers` nor on the order of files. Unreadable files are skipped and reported.

    Args:
        source: folder of images and reports.
        out: folder of the dataset, created if absent.
        adapter: layout of `source`, a name in `mama.data.adapters.ADAPTERS`.
        secret: key of the site's ids, at least one byte, or its file. If neither the file nor a
            dataset exists, a key is created once `source` is known to hold studies. Keep it: the
            dataset cannot be opened without it.
        long_side: longest side of a cached image in pixels.
        config: decisions that depend on the archive.
        test_fraction: share of patients in the test split, unless the adapter or `split` decides.
        workers: number of decoding processes; more than one needs an importable main module
            (spawn).
        split: overrides the adapter's split and the keyed hash of the patient.
        share_weights: if the data's licence lets weights trained on it be shared; None takes the
            adapter's word.
        prune: remove studies that are no longer in the source however many they are.
        progress: called with a stage ("headers", "images"), the files done and their total.

    Returns:
        Counts, skipped files and remarks, which are written to `out` too.

    Raises:
        DataError: there is no folder, study or readable image, a table is invalid, a patient is in
            both splits, or `out` holds a dataset of another key.
        ConfigError: the adapter is unknown, or `out` holds other files or a dataset of another
            `long_side`.
        ServiceError: another process is writing to `out`.
    """
    read = adapters.find(adapter)
    refuse_foreign(out, (MANIFEST, "images/index.jsonl"), before=("secret.key", "lock", HEADERS))
    if not source.is_dir():
        raise DataError("no such folder", where=str(source), fix="Check the path of the data")
    # Locked before the headers are read, which takes hours on a large source.
    with at_work_in(out):
        for name in (MANIFEST, HEADERS, JSON, PAGE):
            remove_unfinished(out / name)
        headers = HeaderCache(
            out / HEADERS, known_key(secret), workers, partial(progress, "headers")
        )
        raw = read(source, config, headers.read)
        if not raw.studies:
            raise DataError("no studies", where=str(source), fix=_fix_for_none(raw, adapter))
        key = key_for(out, secret)
        require_compatible(out, key, long_side)
        headers.write(key)
        ids = Ids(key)

        sources = [
            Source(ids.of("image", image.id), (image.path, *image.copies))
            for study in raw.studies
            for image in study.images
        ]
        cache = ImageCache(out / "images", long_side)
        present = cache.fill(sources, workers, partial(progress, "images"))
        chosen = split or (lambda study: study.split or ids.split(study.patient, test_fraction))
        found = _Found([], sorted(raw.skipped), list(raw.notes))
        for study in raw.studies:
            _take(found, study, _Place(source, ids, cache, config), chosen(study))
        if not found.studies:
            reasons = ", ".join(sorted({item.reason for item in found.skipped}))
            fix = f"All files were left out: {reasons}"
            raise DataError("no usable image", where=str(source), fix=fix)
        before, counts = studies_before(out), counts_before(out)
        then = sum(count for code, count in (counts or {}).items() if code in REASONS)
        kept, missing = with_missing(
            found.studies,
            before,
            prune,
            still={one.id for one in sources},
            left_out=len(found.skipped) - then,
            unread=any(item.reason in UNREAD for item in raw.skipped),
        )
        found.notes += missing
        _check_splits(kept, source)
        found.notes += _audited(found, kept, cache)
        manifest = Manifest(
            adapter=adapter,
            key_check=key_check(key),
            long_side=long_side,
            share_weights=raw.share_weights if share_weights is None else share_weights,
            studies=tuple(kept),
        )
        write_manifest(out, manifest)
        failed = [one.id for one in sources if not cache.entries[one.id].usable]
        cache.keep_only([*failed, *(image.id for study in kept for image in study.images)])
        report = _report(found, kept, before, counts, len(raw.studies), present)
        report.write(out)
        images = {image.id: image for study in kept for image in study.images}
        places = {where: images[id] for where, id in found.places.items() if id in images}
        write_page(out, report, cache.folder, places)
    return report


@dataclass
class _Found:
    """Studies with a usable image, skipped files, remarks, and image ids by path (`places`)."""

    studies: list[Study]
    skipped: list[Skipped]
    notes: list[Note]
    places: dict[str, str] = field(default_factory=dict)
    redacted: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    spacings: list[float | None] = field(default_factory=list)


class _Place(NamedTuple):
    source: Path
    ids: Ids
    cache: ImageCache
    config: IngestConfig

    def name(self, path: Path) -> str:
        """Return a path as remarks name it."""
        return printable(path.relative_to(self.source).as_posix())


def _take(found: _Found, raw: RawStudy, place: _Place, split: Split) -> None:
    """Add a study with its usable images; all others go to the skipped files."""
    images = [image for one in raw.images if (image := _image(found, one, place)) is not None]
    if not images:
        return
    text = read_text(raw.report or (), raw.labels, place.config.reports)
    where = place.name(raw.images[0].path)
    found.notes += [Note(code, where, values(code, text.read, raw.labels)) for code in text.notes]
    found.redacted.update(text.redacted)
    found.languages.update([text.read.language or "unknown"] if text.read.sentences else [])
    found.studies.append(
        Study(
            id=place.ids.of("study", raw.study),
            patient=place.ids.of("patient", raw.patient),
            split=split,
            images=tuple(sorted(images, key=lambda image: image.id)),
            sentences=text.read.sentences,
            labels=with_text(raw.labels, text.read),
            age=raw.age,
        )
    )


def _image(found: _Found, raw: RawImage, place: _Place) -> Image | None:
    """Return the record of an image; None, with the reason noted, if it is left out."""
    id = place.ids.of("image", raw.id)
    entry, paths = place.cache.entries[id], (raw.path, *raw.copies)
    names = [place.name(path) for path in paths]
    found.skipped += [Skipped(n, r) for n, r in zip(names, entry.reasons, strict=False)]
    if not entry.usable:
        return None
    used = len(entry.reasons)
    found.skipped += [Skipped(name, "duplicate") for name in names[used + 1 :]]
    found.places[names[used]] = id
    found.notes += [Note(code, names[used]) for code in entry.remarks]
    side, conflicts = raw.laterality, place.config.conflicts
    if side and raw.hung and entry.mirrored == ((side == "L") != raw.flipped):
        found.notes.append(Note("chest-wall-conflict", names[used]))
        if conflicts == "exclude":
            found.skipped.append(Skipped(names[used], "side-unclear"))
            return None
        side = side if conflicts == "keep" else None
    found.spacings.append(raw.spacing)
    boxes, outside = in_picture(raw.boxes, entry)
    found.notes += [Note("box-outside", names[used])] * outside
    return Image(
        id=id,
        laterality=side,
        view=raw.view,
        vendor=raw.vendor,
        height=entry.height,
        width=entry.width,
        boxes=boxes,
        flags=raw.flags,
    )


def _audited(found: _Found, kept: list[Study], cache: ImageCache) -> list[Note]:
    """Return notes on the faults of the audit."""
    hashes = {
        image.id: cache.entries[image.id].hashes
        for study in kept
        for image in study.images
        if image.id in cache.entries
    }
    return located(audit(kept, hashes), kept, {id: where for where, id in found.places.items()})


def _report(
    found: _Found,
    kept: list[Study],
    before: list[Study],
    counts: Counts | None,
    studies: int,
    cached: int,
) -> IngestReport:
    now, then = ({study.id: study for study in some} for some in (kept, before))
    return IngestReport(
        studies=len(kept),
        images=sum(len(study.images) for study in kept),
        cached=cached,
        added=len(now.keys() - then),
        changed=sum(study != then.get(id, study) for id, study in now.items()),
        removed=len(then.keys() - now),
        dropped_studies=studies - len(found.studies),
        without_report=sum(not study.sentences for study in kept),
        contents=contents_of(kept, found.spacings),
        languages=dict(sorted(found.languages.items())),
        redacted=dict(sorted(found.redacted.items())),
        skipped=sorted(found.skipped),
        notes=sorted(found.notes),
        before=counts,
    )


def _check_splits(studies: list[Study], source: Path) -> None:
    splits: dict[str, Split] = {}
    for study in studies:
        if splits.setdefault(study.patient, study.split) != study.split:
            raise DataError(
                "a patient has studies in both splits",
                where=str(source),
                fix="Assign all studies of a patient to the same split",
            )


def _fix_for_none(raw: RawDataset, adapter: str) -> str:
    if raw.skipped:
        reasons = ", ".join(sorted({item.reason for item in raw.skipped}))
        return f"All {len(raw.skipped)} files were skipped: {reasons}"
    return f"Check the path, and that the folder has the layout of adapter '{adapter}'"
