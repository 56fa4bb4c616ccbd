"""A hospital's folder becomes a dataset: manifest and image cache, free of the hospital's ids.

Every id in the manifest is HMAC-SHA256 of the hospital's own identifier under the site's secret: it
means nothing outside, and stays the same when the folder is ingested again.
"""

import hmac
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mama.claims import refuse_foreign
from mama.data import adapters
from mama.data.adapters import RawDataset, RawStudy, Skipped
from mama.data.cache import ImageCache, Source
from mama.data.manifest import MANIFEST, Dataset, Manifest, write_manifest
from mama.data.secret import key_check, make_secret, read_secret
from mama.data.sentences import split_sentences
from mama.data.studies import Image, Split, Study
from mama.errors import DataError
from mama.locks import at_work_in

ID_LENGTH = 20  # hex digits; 80 bits, collisions are out of reach for any archive


@dataclass(frozen=True)
class IngestReport:
    """What ingest did, for the people of the site.

    `cached` counts images that were not decoded again; `skipped` are files left out and why;
    `dropped_studies` had no readable image, `unmatched_reports` are rows of the table without one.
    """

    studies: int
    images: int
    skipped: list[Skipped]
    dropped_studies: int
    empty_reports: int
    unmatched_reports: int
    without_tissue: int
    cached: int

    def remarks(self) -> list[str]:
        """One line for each thing a person should look at; empty when all went well."""
        counts = {
            "studies without a readable image were left out": self.dropped_studies,
            "studies have no report text": self.empty_reports,
            "rows of the report table have no images": self.unmatched_reports,
            "images show no tissue and were kept whole": self.without_tissue,
        }
        return [f"{skipped.file} left out ({skipped.reason})" for skipped in self.skipped] + [
            f"{count} {what}" for what, count in counts.items() if count
        ]


def ingest(
    source: Path,
    out: Path,
    *,
    adapter: str,
    secret: bytes | Path,
    long_side: int,
    test_fraction: float = 0.2,
    workers: int = 1,
    split: Callable[[RawStudy], Split] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Read `source` into the dataset folder `out`.

    It is safe to repeat, and goes on where it was interrupted. The result depends neither on
    `workers` nor on the order of files. Files that cannot be read are left out and listed.

    Args:
        adapter: layout of `source`, a name in `mama.data.adapters.ADAPTERS`.
        secret: key of the site's ids, at least one byte, or its file. A key is made where there is neither the file
            nor a dataset, once there is something to read; keep it, for no dataset is read without it.
        long_side: longest side of a cached image in pixels.
        test_fraction: share of patients in the test split where nothing else decides.
        workers: processes that decode; more than one needs an importable main module (spawn).
        split: decides instead of the adapter's column and the keyed hash of the patient.
        progress: called with images done and images in all.

    Raises:
        DataError: no folder, no studies, no readable image, a wrong table, a patient in both splits, or `out` holds
            a dataset of another key.
        ConfigError: an unknown adapter, or `out` holds other things or a dataset of another `long_side`.
        ServiceError: another process is at work in `out`.
    """
    read = adapters.find(adapter)
    refuse_foreign(out, (MANIFEST, "images/index.jsonl"), before=("secret.key", "lock"))
    if not source.is_dir():
        raise DataError("no such folder", where=str(source), fix="Check the path of the data")
    raw = read(source)
    if not raw.studies:
        raise DataError("no studies", where=str(source), fix=_fix_for_none(raw, adapter))
    with at_work_in(out):
        key = _key_for(out, secret)
        _require_same(out, key, long_side)
        ids = _Ids(key)

        sources = [
            Source(ids.of("image", image.id), image.path)
            for study in raw.studies
            for image in study.images
        ]
        cache = ImageCache(out / "images", long_side)
        present, failures = cache.fill(sources, workers, progress or (lambda done, total: None))
        failed = {failure.id for failure, _ in failures}
        skipped = [
            *raw.skipped,
            *(Skipped(item.path.name, error.reason) for item, error in failures),
        ]

        chosen = split or (lambda study: study.split or ids.split(study.patient, test_fraction))
        studies = [_study(study, ids, chosen(study), cache, failed) for study in raw.studies]
        kept = sorted((study for study in studies if study.images), key=lambda study: study.id)
        if not kept:
            fix = "See the reasons: " + ", ".join(sorted({item.reason for item in skipped}))
            raise DataError("no readable image", where=str(source), fix=fix)
        _check_splits(kept, source)
        manifest = Manifest(
            adapter=adapter, key_check=key_check(key), long_side=long_side, studies=tuple(kept)
        )
        write_manifest(out, manifest)
        images = [image.id for study in kept for image in study.images]
        cache.keep_only(images)
    return IngestReport(
        studies=len(kept),
        images=len(images),
        skipped=sorted(skipped),
        dropped_studies=len(studies) - len(kept),
        empty_reports=sum(not study.sentences for study in kept),
        unmatched_reports=raw.unmatched_reports,
        without_tissue=sum(not cache.entries[image].tissue_found for image in images),
        cached=present,
    )


def ids_of(secret: bytes, name: str) -> set[str]:
    """The ids that a manifest has for a patient or a study of this name, in whatever form of Unicode it is written."""
    ids = _Ids(secret)
    return {ids.of("patient", name), ids.of("study", name)}


class _Ids:
    """Keyed hashes of a site."""

    def __init__(self, secret: bytes):
        if not secret:
            raise ValueError("the secret of a site must not be empty")
        self._secret = secret

    def of(self, kind: str, raw: str) -> str:
        return self._digest(kind, _name(raw)).hex()[:ID_LENGTH]

    def split(self, patient: str, test_fraction: float) -> Split:
        """By patient, never by study; a patient keeps the split when others come."""
        share = int.from_bytes(self._digest("split", _name(patient))[:8]) / 2**64
        return "test" if share < test_fraction else "train"

    def _digest(self, kind: str, raw: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}\0{raw}".encode(), sha256)


def _name(raw: str) -> str:
    """One form of a name for what people take for one: a list of names is typed on another machine than the source."""
    return unicodedata.normalize("NFC", raw).strip()


def _key_for(out: Path, secret: bytes | Path) -> bytes:
    """The key of a dataset's ids; a dataset that is there keeps the one that it has."""
    if isinstance(secret, bytes):
        return secret
    there = (out / MANIFEST).exists() or secret.exists()
    return read_secret(secret) if there else make_secret(secret)


def _require_same(out: Path, key: bytes, long_side: int) -> None:
    """Refuse to mix a dataset that is there with ids of another key or pictures of another size."""
    if (out / MANIFEST).exists():
        try:
            dataset = Dataset(out)
        except DataError:
            return  # damaged or of an older format: it is written anew as a whole
        dataset.require_key(key)
        dataset.require_long_side(long_side)


def _study(raw: RawStudy, ids: _Ids, split: Split, cache: ImageCache, failed: set[str]) -> Study:
    images = []
    for image in raw.images:
        id = ids.of("image", image.id)
        if id not in failed:
            entry = cache.entries[id]
            images.append(
                Image(
                    id=id,
                    laterality=image.laterality,
                    view=image.view,
                    vendor=image.vendor,
                    height=entry.height,
                    width=entry.width,
                )
            )
    return Study(
        id=ids.of("study", raw.study),
        patient=ids.of("patient", raw.patient),
        split=split,
        images=tuple(sorted(images, key=lambda image: image.id)),
        sentences=split_sentences(raw.report or ""),
        labels=raw.labels,
    )


def _check_splits(studies: list[Study], source: Path) -> None:
    splits: dict[str, Split] = {}
    for study in studies:
        if splits.setdefault(study.patient, study.split) != study.split:
            raise DataError(
                "a patient has studies in both splits",
                where=str(source),
                fix="Give all studies of a patient the same split",
            )


def _fix_for_none(raw: RawDataset, adapter: str) -> str:
    if raw.skipped:
        reasons = ", ".join(sorted({item.reason for item in raw.skipped}))
        return f"All {len(raw.skipped)} files were left out: {reasons}"
    return f"Check the path, and that its layout is '{adapter}'"
