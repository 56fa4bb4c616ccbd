"""The images of a dataset, decoded once.

    images/<image id>.npy   the picture, written whole or not at all
    images/index.jsonl      one line a picture: what it was made from, appended when it is there

Filling the cache can be stopped at any point and started again: pictures whose source has not
changed are not decoded a second time.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

from mama.data.dicom import ImageError, Reason, read_pixels
from mama.data.picture import write_picture
from mama.data.tissue import prepare
from mama.errors import DataError
from mama.files import private_folder, write_text
from mama.processes import worker_pool

RECIPE = 2  # count up when pictures come out differently, so that old caches are made again
CHUNK = 8  # files handed to a worker at a time


@dataclass(frozen=True)
class Source:
    """A file to be cached as `id`."""

    id: str
    path: Path


@dataclass(frozen=True)
class Cached:
    """A picture in the cache; `made_from` changes with the source file and the recipe.

    `size` is that of the picture's file in bytes.
    """

    id: str
    made_from: str
    height: int
    width: int
    tissue_found: bool
    size: int


@dataclass(frozen=True)
class _Job:
    source: Source
    made_from: str
    target: Path
    long_side: int


class ImageCache:
    """The `images` folder of a dataset.

    Args:
        folder: where pictures are kept; made if absent.
        long_side: longest side of a picture in pixels.
    """

    def __init__(self, folder: Path, long_side: int):
        self.folder, self.long_side = folder, long_side
        self.index = folder / "index.jsonl"
        try:
            private_folder(folder)
            self.entries = {entry.id: entry for entry in self._read_index()}
            self._write_index()
        except OSError as error:
            raise DataError(
                f"cannot be written ({error.strerror})",
                where=str(folder),
                fix="Choose a folder with room and write permission",
            ) from None

    def fill(
        self,
        sources: Sequence[Source],
        workers: int,
        progress: Callable[[int, int], None],
    ) -> tuple[int, list[tuple[Source, ImageError]]]:
        """Decode what is missing.

        Returns:
            How many were there already, and the sources that could not be read.
        """
        failures: list[tuple[Source, ImageError]] = []
        jobs = [self._job(source) for source in sources]
        missing = [job for job in jobs if not self._holds(job)]
        present = done = len(jobs) - len(missing)
        progress(done, len(jobs))
        with open(self.index, "a", encoding="utf-8") as index:
            for job, result in zip(missing, _run(missing, workers), strict=True):
                if isinstance(result, Cached):
                    self.entries[result.id] = result
                    index.write(_line(result))
                    index.flush()
                else:
                    failures.append((job.source, ImageError(result, job.source.path)))
                done += 1
                progress(done, len(jobs))
        return present, failures

    def keep_only(self, ids: Iterable[str]) -> None:
        """Remove the pictures of all other ids, so that a withdrawn exam leaves no trace."""
        kept = set(ids)
        for picture in list(self.folder.glob("*.npy")):
            if picture.stem not in kept:
                picture.unlink()
        self.entries = {name: entry for name, entry in self.entries.items() if name in kept}
        self._write_index()

    def _job(self, source: Source) -> _Job:
        stat = source.path.stat()
        made_from = f"{stat.st_size} {stat.st_mtime_ns} {self.long_side} {RECIPE}"
        return _Job(source, made_from, self.folder / f"{source.id}.npy", self.long_side)

    def _holds(self, job: _Job) -> bool:
        entry = self.entries.get(job.source.id)
        if entry is None or entry.made_from != job.made_from or not job.target.is_file():
            return False
        return job.target.stat().st_size == entry.size

    def _read_index(self) -> Iterator[Cached]:
        if self.index.is_file():
            for line in self.index.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    yield Cached(**json.loads(line))
                except (ValueError, TypeError):  # the last line of an ingest that was killed
                    continue

    def _write_index(self) -> None:
        write_text(self.index, "".join(_line(self.entries[key]) for key in sorted(self.entries)))


def _line(entry: Cached) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[Cached | Reason]:
    """Results in the order of the jobs; a failure is its reason."""
    if workers <= 1 or len(jobs) <= CHUNK:
        yield from map(_cache_one, jobs)
        return
    done = 0
    with worker_pool(workers) as pool:
        try:
            for result in pool.map(_cache_one, jobs, chunksize=CHUNK):
                yield result
                done += 1
        except BrokenProcessPool:
            raise DataError(
                f"a worker process died while reading this file or one of the next {CHUNK * workers}",
                where=jobs[done].source.path.name,
                fix="Free some memory and run it again; it goes on where it stopped. If it stops here again, take the "
                "damaged file out",
            ) from None


def _cache_one(job: _Job) -> Cached | Reason:
    try:
        breast = prepare(read_pixels(job.source.path), job.long_side)
    except ImageError as error:
        return error.reason
    size = write_picture(job.target, breast.pixels)
    height, width = breast.pixels.shape
    return Cached(job.source.id, job.made_from, height, width, breast.found, size)
