"""Image cache: the images of a dataset, each decoded once.

    images/<image id>.npy   the picture, written atomically
    images/index.jsonl      one line per image, appended after its picture, or with its failure

Filling the cache can be interrupted and restarted at any point: images with unchanged sources are
not decoded again, and neither are those that failed.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from mama.data.dicom.pixels import read_image
from mama.data.dicom.reasons import ImageError, Reason
from mama.data.ingest.audit import PictureHash, hash_picture
from mama.data.ingest.headers import state_of
from mama.data.ingest.workers import in_workers
from mama.data.picture import is_document, write_picture
from mama.data.tissue import prepare
from mama.errors import DataError
from mama.system.files import private_folder, remove_unfinished, write_text

RECIPE = 6  # increment when the pixels of pictures change, so that old caches are rebuilt
NO_HASH = PictureHash("", "")
CHUNK = 8  # files per worker task
# Failures that another try may not have, without a change of the file.
PASSING = {"read-error", "no-permission", "missing-decoder"}


@dataclass(frozen=True)
class Source:
    """Files of one image, to be cached as `id`; the first that can be read is used."""

    id: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Cached:
    """An image in the cache, or one that cannot be used.

    Attributes:
        id: of the image.
        made_from: state of the source files, and the recipe.
        reasons: reasons for not using files, in the order of the source's paths; one for each
            path if none was used.
        height: of the picture in pixels.
        width: of the picture in pixels.
        size: of the picture's file in bytes.
        box: the crop in pixels of the original: top, left, bottom, right.
        mirrored: True if the original's chest wall is on the right.
        remarks: codes of `mama.data.adapters.notes`.
        hashes: of the picture, for the audit.
    """

    id: str
    made_from: str
    reasons: tuple[Reason, ...] = ()
    height: int = 0
    width: int = 0
    size: int = 0
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    mirrored: bool = False
    remarks: tuple[str, ...] = ()
    hashes: PictureHash = NO_HASH

    @property
    def usable(self) -> bool:
        """True if there is a picture."""
        return self.size > 0


@dataclass(frozen=True)
class _Job:
    source: Source
    made_from: str
    target: Path
    long_side: int


class ImageCache:
    """The `images` folder of a dataset.

    Args:
        folder: folder of the pictures; created if absent.
        long_side: longest side of a picture in pixels.

    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: Path, long_side: int):
        self.folder, self.long_side = folder, long_side
        self.index = folder / "index.jsonl"
        try:
            private_folder(folder)
            remove_unfinished(self.index)
            self.entries = {entry.id: entry for entry in self._read_index()}
            self._write_index()
        except OSError as error:
            raise DataError(
                f"cannot be written ({error.strerror})",
                where=str(folder),
                fix="Choose a writable folder with free space",
            ) from None

    def fill(
        self,
        sources: Sequence[Source],
        workers: int,
        progress: Callable[[int, int], None],
    ) -> int:
        """Decode the sources that are not in the cache; `entries` then has all of them.

        Args:
            sources: the files to cache.
            workers: number of decoding processes.
            progress: called with the number of images done and in total.

        Returns:
            The number of pictures that were cached already.

        Raises:
            DataError: a worker process died.
        """
        jobs = [self._job(source) for source in sources]
        held = {job.source.id for job in jobs if self._holds(job)}
        missing = [job for job in jobs if job.source.id not in held]
        done, present = len(jobs) - len(missing), sum(self.entries[id].usable for id in held)
        progress(done, len(jobs))
        with open(self.index, "a", encoding="utf-8") as index:
            results = in_workers(
                _cache_one,
                missing,
                workers=workers,
                chunk=CHUNK,
                path_of=lambda job: job.source.paths[0],
            )
            for job, result in zip(missing, results, strict=True):
                self.entries[job.source.id] = result
                index.write(_line(result))
                index.flush()
                done += 1
                progress(done, len(jobs))
        return present

    def keep_only(self, ids: Iterable[str]) -> None:
        """Remove all other ids and their pictures, so that nothing of a withdrawn exam remains."""
        kept = set(ids)
        for picture in list(self.folder.glob("*.npy")):
            if picture.stem not in kept:
                picture.unlink()
        self.entries = {name: entry for name, entry in self.entries.items() if name in kept}
        self._write_index()

    def _job(self, source: Source) -> _Job:
        states = " ".join(state_of(path) for path in source.paths)
        made_from = f"{states} {self.long_side} {RECIPE}"
        return _Job(source, made_from, self.folder / f"{source.id}.npy", self.long_side)

    def _holds(self, job: _Job) -> bool:
        entry = self.entries.get(job.source.id)
        if entry is None or entry.made_from != job.made_from:
            return False
        if not entry.usable:
            return not PASSING.intersection(entry.reasons)
        return job.target.is_file() and job.target.stat().st_size == entry.size

    def _read_index(self) -> Iterator[Cached]:
        if self.index.is_file():
            for line in self.index.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    yield _CACHED.validate_json(line)
                except (ValueError, TypeError):  # a line cut short when an ingest was killed
                    continue

    def _write_index(self) -> None:
        write_text(self.index, "".join(_line(self.entries[key]) for key in sorted(self.entries)))


_CACHED = TypeAdapter(Cached)


def _line(entry: Cached) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _cache_one(job: _Job) -> Cached:
    reasons: list[Reason] = []
    for path in job.source.paths:
        try:
            image = read_image(path)
        except ImageError as error:
            reasons.append(error.reason)
            continue
        breast = prepare(image.levels, job.long_side, image.table)
        if not breast.found or is_document(breast.pixels):
            reasons.append("no-tissue")
            continue
        size = write_picture(job.target, breast.pixels)
        height, width = breast.pixels.shape
        return Cached(
            job.source.id,
            job.made_from,
            tuple(reasons),
            height,
            width,
            size,
            breast.box,
            breast.mirrored,
            image.remarks,
            hash_picture(breast.pixels),
        )
    return Cached(job.source.id, job.made_from, tuple(reasons))
